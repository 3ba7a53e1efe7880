"""The indicators of Lacan et al. as their code takes them, from trainings that are there: beside the scorecard."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from transcriptome_diffusion.generators.registry import GENERATORS, model_name
from transcriptome_diffusion.pipelines.shared import boxed

from . import nodes


def create_pipeline(**_: Any) -> Pipeline:
    """One score per generator, and ``paper_protocol``, the table of all; start it after a default run."""
    scores = []
    for name, spec in GENERATORS.items():
        inputs = [
            f"models_{model_name(name)}",
            *("landmarks_train", "landmarks_validation", "landmarks_test"),
            *("params:paper_protocol", "params:sampling"),
        ]
        if spec.sampler is not None:
            inputs.append(f"params:{name}")
        node = Node(nodes.Score(name, spec.sampler), inputs, f"paper_protocol_{name}", name=f"score_{name}", tags=name)
        scores.append(node)
    tables = ["params:study", *(f"paper_protocol_{name}" for name in GENERATORS)]
    collected = Node(nodes.collect, tables, "paper_protocol", name="collect")
    return boxed([*scores, collected], "paper_protocol")
