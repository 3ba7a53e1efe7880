"""The diffusion model: one denoiser, and landmark profiles from each of its samplers."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Pipeline

from transcriptome_diffusion.generators.registry import GENERATORS, model_name
from transcriptome_diffusion.pipelines.generators import draw_node, fit_node
from transcriptome_diffusion.pipelines.shared import boxed


def create_pipeline(**_: Any) -> Pipeline:
    """``--from-nodes diffusion_training.draw_ddim`` samples again without training."""
    samplers = [name for name, spec in GENERATORS.items() if spec.pipeline == "diffusion_training"]
    models = dict.fromkeys(map(model_name, samplers))
    fits = [fit_node(model, f"fit_{model}") for model in models]
    draws = [draw_node(sampler, f"draw_{sampler}") for sampler in samplers]
    return boxed([*fits, *draws], "diffusion_training")
