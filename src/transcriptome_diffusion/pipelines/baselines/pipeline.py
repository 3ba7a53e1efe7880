"""One template, a namespace per generator: fit on train, then one profile per training sample."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from transcriptome_diffusion.generators.registry import BASELINES, is_trained
from transcriptome_diffusion.pipelines import training


def create_pipeline(**_: Any) -> Pipeline:
    """Every generator of the registry's ``BASELINES``; those that are trained leave a curve."""
    stages = []
    for name, entry in BASELINES.items():
        models = f"generator_{name}"
        draw = Node(
            training.draw_profiles,
            [models, "landmarks_train", "params:sampling"],
            f"profiles_{name}",
            name="draw",
        )
        nodes = [training.fit_node(entry, name, models, "fit"), draw]
        if is_trained(entry):
            nodes.append(training.log_node(name, models))
        stages.append(Pipeline(nodes, namespace=f"baselines.{name}", prefix_datasets_with_namespace=False))
    return sum(stages, Pipeline([]))
