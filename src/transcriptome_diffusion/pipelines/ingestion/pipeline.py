"""Raw cohort in, expression split by donor out."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from . import nodes


def create_pipeline(**_: Any) -> Pipeline:
    """Label, filter and transform the cohort, then split it once for everybody downstream."""
    return Pipeline(
        [
            Node(nodes.prepare_cohort, ["raw_cohort", "params:ingestion"], "cohort", name="prepare_cohort"),
            Node(
                nodes.split_by_donor,
                ["cohort", "params:split", "params:ingestion"],
                ["expression_train", "expression_validation", "expression_test", "cohort_summary"],
                name="split_by_donor",
            ),
        ],
        namespace="ingestion",
        prefix_datasets_with_namespace=False,
    )
