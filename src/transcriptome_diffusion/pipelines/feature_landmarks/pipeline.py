"""Keep the L1000 panel, as ingestion matched it to the cohort's genes; each split in a node of its own."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from transcriptome_diffusion.pipelines.shared import boxed

from . import nodes


def create_pipeline(**_: Any) -> Pipeline:
    """One node per split, so that held-out donors reach evaluation alone."""
    select = [
        Node(
            nodes.select_landmarks,
            [f"expression_{split}", "gene_panel", "params:landmarks"],
            f"landmarks_{split}",
            name=f"select_{split}",
        )
        for split in ("train", "validation", "test")
    ]
    return boxed(select, "feature_landmarks")
