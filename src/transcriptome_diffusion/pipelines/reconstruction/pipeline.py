"""Landmarks to the whole transcriptome, for every generator."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from transcriptome_diffusion.generators.registry import GENERATOR_NAMES

from . import nodes


def create_pipeline(**_: Any) -> Pipeline:
    """Fit on real training donors, apply to synthetic landmarks."""
    fit = Node(
        nodes.fit_linear,
        ["landmarks_train", "expression_train", "params:reconstruction_linear"],
        "reconstructor_linear",
        name="fit_linear",
    )
    rebuild = [
        Node(
            nodes.reconstruct,
            ["reconstructor_linear", f"profiles_{name}"],
            f"transcriptomes_linear_{name}",
            name=f"reconstruct_{name}",
        )
        for name in GENERATOR_NAMES
    ]
    return Pipeline([fit, *rebuild], namespace="reconstruction", prefix_datasets_with_namespace=False)
