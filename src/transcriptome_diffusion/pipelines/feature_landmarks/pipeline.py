"""Match the L1000 panel to the cohort's genes and keep it, each split in a node of its own."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from . import nodes


def create_pipeline(**_: Any) -> Pipeline:
    """The panel is matched on the training data's gene table; every split is then cut to it separately."""
    match = Node(nodes.match_panel, ["expression_train", "landmark_genes"], "gene_panel", name="match_panel")
    select = [
        Node(
            nodes.select_landmarks,
            [f"expression_{split}", "gene_panel", "params:landmarks"],
            f"landmarks_{split}",
            name=f"select_{split}",
        )
        for split in ("train", "validation", "test")
    ]
    return Pipeline([match, *select], namespace="feature_landmarks", prefix_datasets_with_namespace=False)
