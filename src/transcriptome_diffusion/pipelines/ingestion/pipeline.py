"""Raw cohort in, expression split by donor out."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from transcriptome_diffusion.pipelines.shared import boxed

from . import nodes


def create_pipeline(**_: Any) -> Pipeline:
    """Label and transform the cohort, split it once for everybody downstream, keep the genes that train shows."""
    prepare = Node(nodes.prepare_cohort, ["raw_cohort", "params:ingestion"], "cohort", name="prepare")
    split = Node(
        nodes.split_samples,
        ["cohort", "params:split"],
        ["split_table", "cohort_summary"],
        name="split",
    )
    filtered = Node(
        nodes.filter_genes,
        ["cohort", "split_table", "landmark_genes", "params:ingestion"],
        ["expression_train", "expression_validation", "expression_test", "gene_panel"],
        name="filter",
    )
    return boxed([prepare, split, filtered], "ingestion", internal=["cohort", "split_table"])
