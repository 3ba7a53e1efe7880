"""From landmark profiles to whole transcriptomes, for every generator."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from transcriptome_diffusion.generators.registry import GENERATORS, model_name
from transcriptome_diffusion.pipelines.shared import boxed
from transcriptome_diffusion.reconstruction.registry import RECONSTRUCTORS

from . import nodes


def create_pipeline(**_: Any) -> Pipeline:
    """Fit on real training donors, judge residuals on validation donors, apply to synthetic landmarks."""
    fit = Node(
        nodes.FitReconstructors(),
        [
            *("landmarks_train", "expression_train", "landmarks_validation", "expression_validation"),
            *(f"params:reconstruction_{name}" for name in RECONSTRUCTORS),
        ],
        "reconstructors",
        name="fit",
    )
    return boxed([fit, *map(reconstruct_node, GENERATORS)], "reconstruction")


def reconstruct_node(generator: str) -> Node:
    """One node per generator; what it makes is partitioned by reconstructor."""
    spec = GENERATORS[generator]
    inputs = [f"profiles_{generator}", "reconstructors", "params:sampling", "params:detail"]
    if spec.whole_transcriptome:
        inputs += [f"models_{model_name(generator)}", "expression_train"]
        inputs += [f"params:{generator}"] if spec.sampler else []
    return Node(
        nodes.Reconstruct(generator), inputs, f"transcriptomes_{generator}", name=f"reconstruct_{generator}",
        tags=generator,
    )  # fmt: skip
