"""The baselines: fit and draw, a box for each generator."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Pipeline

from transcriptome_diffusion.generators.registry import GENERATORS
from transcriptome_diffusion.pipelines.generators import draw_node, fit_node
from transcriptome_diffusion.pipelines.shared import boxed


def create_pipeline(**_: Any) -> Pipeline:
    """Every generator that the table assigns to this pipeline."""
    boxes = [
        boxed(
            [fit_node(name, "fit"), draw_node(name, "draw")],
            f"baselines.{name}",
            # the others' models are read to draw transcriptomes, to attack them, or to log their training
            internal=[] if spec.whole_transcriptome or spec.white_box or spec.trained else [f"models_{name}"],
        )
        for name, spec in GENERATORS.items()
        if spec.pipeline == "baselines"
    ]
    return sum(boxes, Pipeline([]))
