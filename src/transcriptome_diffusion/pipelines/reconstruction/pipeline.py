"""Landmarks to the whole transcriptome, for every generator, with and without residual noise."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from transcriptome_diffusion.generators.registry import RECONSTRUCTORS, TRANSCRIPTOMES

from . import nodes


def create_pipeline(**_: Any) -> Pipeline:
    """Fit on real training donors, judge residuals on validation donors, apply to synthetic landmarks."""
    fits = [
        Node(
            nodes.fit_mlp if method == "mlp" else nodes.fit_linear,
            [
                "landmarks_train",
                "expression_train",
                "landmarks_validation",
                "expression_validation",
                f"params:reconstruction_{method}",
            ],
            f"reconstructor_{method}",
            name=f"fit_{method}",
        )
        for method in RECONSTRUCTORS
    ]
    rebuild = [
        Node(
            nodes.reconstruct_with_noise if way.endswith("_noise") else nodes.reconstruct,
            [
                f"reconstructor_{way.removesuffix('_noise')}",
                f"profiles_{name}",
                *(["params:sampling"] if way.endswith("_noise") else []),
            ],
            f"transcriptomes_{name}_by_{way}",
            name=f"reconstruct_{name}_by_{way}",
        )
        for name, way in TRANSCRIPTOMES
        if way != "direct"
    ]
    return Pipeline([*fits, *rebuild], namespace="reconstruction", prefix_datasets_with_namespace=False)
