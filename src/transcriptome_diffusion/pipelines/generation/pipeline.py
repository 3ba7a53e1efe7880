"""Profiles on request from a trained generator; not part of the default run.

``kedro run --pipelines generation --params generation.generator=ddim,generation.profiles.lung=500``
"""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from transcriptome_diffusion.generators.registry import GENERATORS
from transcriptome_diffusion.pipelines.shared import boxed

from . import nodes


def create_pipeline(**_: Any) -> Pipeline:
    """One node; which model it reads is a parameter, so that it reads the folder of all models."""
    inputs = {"models": "models", "options": "params:generation"}
    inputs |= {name: f"params:{name}" for name in GENERATORS if GENERATORS[name].sampler}
    node = Node(nodes.ask, inputs, "profiles", name="generate")
    return boxed([node], "generation", internal=("models", "profiles"))
