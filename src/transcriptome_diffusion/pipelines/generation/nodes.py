"""The node of the generation: what is asked for; the profiles are drawn when they are saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transcriptome_diffusion.generators.options import GenerationOptions


def ask(models: Path, options: GenerationOptions, **samplers: Any) -> dict[str, Any]:
    """The request by the name of its file, once the model is found and labels and settings are checked.

    Args:
        models: the folder of all trained models.
        samplers: by generator, the block of parameters of its sampler.
    """
    from transcriptome_diffusion import generation

    name, request = generation.request(models, options, samplers)
    return {name: request}
