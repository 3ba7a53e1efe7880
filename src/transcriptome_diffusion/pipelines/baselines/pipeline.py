"""One template, a namespace per generator: fit on train, then one profile per training sample."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from transcriptome_diffusion.generators.registry import BASELINES

from . import nodes


def create_pipeline(**_: Any) -> Pipeline:
    """Every generator of the registry's ``BASELINES``."""
    stages = []
    for name, entry in BASELINES.items():
        fit = Node(
            nodes.fitting(entry),
            ["landmarks_train", "landmarks_validation", f"params:{name}"],
            f"generator_{name}",
            name="fit",
        )
        draw = Node(
            nodes.draw_profiles,
            [f"generator_{name}", "landmarks_train", "params:sampling"],
            f"profiles_{name}",
            name="draw",
        )
        stages.append(Pipeline([fit, draw], namespace=f"baselines.{name}", prefix_datasets_with_namespace=False))
    return sum(stages, Pipeline([]))
