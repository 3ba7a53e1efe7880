"""Nodes of the reconstruction: fit on real training donors, apply to synthetic landmark profiles."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from transcriptome_diffusion.generators.options import SamplerOptions, SamplingOptions
from transcriptome_diffusion.generators.registry import GENERATORS
from transcriptome_diffusion.pipelines.generators import draw
from transcriptome_diffusion.pipelines.shared import AnnData
from transcriptome_diffusion.reconstruction.options import MLPReconstructionOptions, ReconstructionOptions


def fit_reconstructors(
    landmarks: AnnData,
    expression: AnnData,
    other_landmarks: AnnData,
    other_expression: AnnData,
    ridge: ReconstructionOptions,
    ols: ReconstructionOptions,
    mlp: MLPReconstructionOptions,
) -> dict[str, Callable[[], Any]]:
    """The maps from landmarks to all genes, each fitted when it is saved; other donors show what they leave over."""
    from transcriptome_diffusion.reconstruction import fit_reconstructor

    profiles = (landmarks, expression, other_landmarks, other_expression)
    options = {"ridge": ridge, "ols": ols, "mlp": mlp}
    return {name: partial(fit_reconstructor, name, *profiles, block) for name, block in options.items()}


class Reconstruct:
    """Makes the whole transcriptomes of one generator, by every reconstructor that the table of generators names."""

    def __init__(self, generator: str) -> None:
        self.generator = generator
        self.__name__ = f"reconstruct_{generator}"
        self.__annotations__ = {"sampling": SamplingOptions, "sampler": SamplerOptions}

    def __call__(
        self,
        profiles: AnnData,
        reconstructors: dict[str, Callable[[], Any]],
        sampling: Any,
        models: Any = None,
        train: AnnData = None,
        sampler: Any = None,
    ) -> dict[str, Callable[[], AnnData]]:
        """By reconstructor, a function that makes the profiles (n, n_genes) when they are saved.

        ``direct`` profiles come from a model of all genes, without landmarks.
        """
        parts: dict[str, Callable[[], AnnData]] = {
            name: partial(reconstruct, name, reconstructors, profiles, sampling.seed)
            for name in GENERATORS[self.generator].reconstructors
        }
        if models is not None:
            parts["direct"] = partial(draw, models.transcriptome, train, sampling, sampler)
        return parts


def reconstruct(name: str, reconstructors: dict[str, Callable[[], Any]], profiles: AnnData, seed: int) -> AnnData:
    """Whole transcriptomes for landmark profiles, which pass through unchanged.

    Names that end in ``_noise`` add residuals as held-out donors have them.
    """
    model = reconstructors[name.removesuffix("_noise")]()
    return model.reconstruct(profiles, noise_seed=seed if name.endswith("_noise") else None)
