"""The indicators of Lacan et al. as their code takes them, from trainings that are there: beside the scorecard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kedro.pipeline import Node, Pipeline

from transcriptome_diffusion.generators.registry import GENERATORS, model_name
from transcriptome_diffusion.pipelines.shared import boxed

from . import nodes

#: real profiles of both spaces
LANDMARKS = [f"landmarks_{split}" for split in ("train", "validation", "test")]
EXPRESSION = [f"expression_{split}" for split in ("train", "validation", "test")]


def create_pipeline(namespace: str = "paper_protocol", renamed: Mapping[str, str] | None = None, **_: Any) -> Pipeline:
    """One score per generator and one of real profiles, and ``paper_protocol``, the table of all.

    Start it after a default run, or let the study do so.

    Args:
        renamed: as ``boxed`` takes it: trained models that have another name in a larger pipeline.
    """
    own = [
        Node(
            nodes.fit_reconstructors,
            [
                *("landmarks_train", "expression_train", "landmarks_validation", "expression_validation"),
                *("params:reconstruction_ols", "params:reconstruction_mlp", "params:paper_protocol"),
            ],
            "paper_reconstructors",
            name="fit_reconstructors",
        ),
        Node(
            nodes.score_real,
            [*LANDMARKS, *EXPRESSION, "paper_reconstructors", "params:paper_protocol"],
            "paper_protocol_real",
            name="score_real",
        ),
        *map(score_node, GENERATORS),
        Node(
            nodes.collect,
            ["params:study", "paper_protocol_real", *(f"paper_protocol_{name}" for name in GENERATORS)],
            "paper_protocol",
            name="collect",
        ),
    ]
    return boxed(own, namespace, renamed=renamed)


def score_node(name: str) -> Node:
    """The score of one generator; all genes of those that the paper has."""
    spec = GENERATORS[name]
    train, validation, test = LANDMARKS
    inputs = {
        "models": f"models_{model_name(name)}",
        "train": train,
        "validation": validation,
        "test": test,
        "options": "params:paper_protocol",
        "sampling": "params:sampling",
    }
    if spec.sampler is not None:
        inputs["sampler"] = f"params:{name}"
    if "ols" in spec.full:
        whole_train, whole_validation, whole_test = EXPRESSION
        inputs |= {"whole_train": whole_train, "whole_validation": whole_validation, "whole_test": whole_test}
        inputs["reconstructors"] = "paper_reconstructors"
    return Node(
        nodes.Score(name, spec.sampler), inputs, f"paper_protocol_{name}", name=f"score_{name}", tags=name
    )  # fmt: skip
