"""Raw cohort in, expression split by donor out."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from . import nodes


def create_pipeline(**_: Any) -> Pipeline:
    """Label and transform the cohort, split it once for everybody downstream, keep the genes that train shows."""
    prepare = Node(
        nodes.prepare_cohort,
        ["raw_cohort", "params:ingestion"],
        "ingestion.cohort",
        name="prepare",
        namespace="ingestion",
    )
    split = Node(
        nodes.split_samples,
        ["ingestion.cohort", "params:split"],
        ["ingestion.split_table", "cohort_summary"],
        name="split",
        namespace="ingestion",
    )
    filtered = Node(
        nodes.filter_genes,
        ["ingestion.cohort", "ingestion.split_table", "landmark_genes", "params:ingestion"],
        ["expression_train", "expression_validation", "expression_test", "gene_panel"],
        name="filter",
        namespace="ingestion",
    )
    # named here and not by the pipeline: Kedro warns of a dot in a dataset's name on nodes without a namespace
    return Pipeline([prepare, split, filtered])
