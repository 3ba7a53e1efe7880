"""A model of a sensitive cohort with axes of a public one, and what it would give away; not part of the default run.

``kedro run --pipelines privacy --params privacy.dial=dp,privacy.epsilon=4``, after the stages up to feature_landmarks
"""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from transcriptome_diffusion.pipelines.augmentation.nodes import prepare_reference
from transcriptome_diffusion.pipelines.shared import boxed

from . import nodes


def create_pipeline(**_: Any) -> Pipeline:
    """The model is written to 06_models/private; the report reads held-out donors and leads to no model."""
    prepare = Node(
        prepare_reference,
        ["reference_cohort", "landmarks_train", "params:evaluation"],
        "reference",
        name="prepare_reference",
    )
    fit = Node(
        nodes.fit,
        ["landmarks_train", "landmarks_validation", "reference", "params:class_gaussian", "params:privacy"],
        "model",
        name="fit",
    )
    report = Node(
        nodes.report,
        ["model", "landmarks_train", "landmarks_validation", "landmarks_test", "reference", "params:sampling"],
        ["attacks", "by_class", "at_risk", "sentence"],
        name="report",
    )
    whole = Pipeline([prepare, fit, report])
    return boxed([whole], "privacy", internal=whole.all_outputs())
