"""The published files of an environment's cohort; not part of the default run."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from . import nodes


def create_pipeline(**_: Any) -> Pipeline:
    """One node: `raw_cohort` reads the folder that it fills."""
    fetch = Node(nodes.fetch, "params:download", None, name="fetch")
    return Pipeline([fetch], namespace="download", prefix_datasets_with_namespace=False)
