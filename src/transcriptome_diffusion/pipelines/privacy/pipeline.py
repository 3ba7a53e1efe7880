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
    choose = Node(
        nodes.choose,
        [
            "params:privacy",
            *(f"params:{block}" for block in ("class_gaussian", "vae", "wgan_gp", "flow_matching", "denoiser")),
            *(f"params:{sampler}" for sampler in ("ddpm", "ddim")),
        ],
        "options",
        name="choose_generator",
    )
    real = ["landmarks_train", "landmarks_validation"]
    fit = Node(nodes.fit, [*real, "reference", "options", "params:privacy"], "model", name="fit")
    draw = Node(
        nodes.draw,
        [*real, "reference", "options", "params:privacy", "params:augmentation", "params:evaluation"],
        "drawn",
        name="draw_with_every_dial",
    )
    report = Node(
        nodes.report,
        ["model", "drawn", *real, "landmarks_test", "reference", "params:sampling", "params:evaluation"],
        ["attacks", "by_class", "at_risk", "sentence", "frontier", "figure_frontier", "page"],
        name="report",
    )
    whole = Pipeline([prepare, choose, fit, draw, report])
    return boxed([whole], "privacy", internal=whole.all_outputs())
