"""Nodes of the reconstruction: fit on real training donors, apply to synthetic landmark profiles."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from transcriptome_diffusion.generators.options import SamplerOptions, SamplingOptions
from transcriptome_diffusion.generators.registry import DIRECT, GENERATORS
from transcriptome_diffusion.pipelines.generators import draw
from transcriptome_diffusion.pipelines.shared import AnnData
from transcriptome_diffusion.reconstruction import registry
from transcriptome_diffusion.reconstruction.registry import RECONSTRUCTORS, fit_reconstructor, reconstructor_of


class FitReconstructors:
    """Fits every reconstructor of the table; its annotations let Kedro validate their blocks of parameters."""

    def __init__(self) -> None:
        self.__name__ = "fit_reconstructors"
        self.__annotations__ = {name: spec.options for name, spec in RECONSTRUCTORS.items()}

    def __call__(
        self,
        landmarks: AnnData,
        expression: AnnData,
        other_landmarks: AnnData,
        other_expression: AnnData,
        ridge: Any,
        ols: Any,
        mlp: Any,
    ) -> dict[str, Callable[[], Any]]:
        """Maps from landmarks to all genes, each fitted when it is saved; other donors show what they leave over."""
        from transcriptome_diffusion.reconstruction.base import decompose_landmarks

        profiles = (landmarks, expression, other_landmarks, other_expression)
        spectrum = decompose_landmarks(landmarks)
        options = {"ridge": ridge, "ols": ols, "mlp": mlp}
        return {name: partial(fit_reconstructor, name, *profiles, block, spectrum) for name, block in options.items()}


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
        detail: str,
        models: Any = None,
        train: AnnData = None,
        sampler: Any = None,
    ) -> dict[str, Callable[[], AnnData]]:
        """By reconstructor, a function that makes the profiles (n, n_genes) when they are saved.

        ``DIRECT`` profiles come from a model of all genes, without landmarks.
        """
        parts: dict[str, Callable[[], AnnData]] = {}
        for name in GENERATORS[self.generator].reconstructors(detail):
            if name != DIRECT:
                parts[name] = partial(reconstruct, name, reconstructors, profiles, sampling.seed)
                continue
            if not models.transcriptome.tried:
                raise ValueError(
                    f"{self.generator} was not trained on all genes: `detail` is {detail!r} now, and was `standard` "
                    "when it was fitted. Fit it again, or set `detail` to standard."
                )
            parts[name] = partial(draw, models.transcriptome, train, sampling, sampler)
        return parts


def reconstruct(name: str, reconstructors: dict[str, Callable[[], Any]], profiles: AnnData, seed: int) -> AnnData:
    """Whole transcriptomes for landmark profiles, by a reconstructor that is loaded when it is needed.

    Where there are no profiles, they are returned as they are.
    """
    if not profiles.n_obs:
        return profiles
    model, _ = reconstructor_of(name)
    return registry.reconstruct(name, {model: reconstructors[model]()}, profiles, seed)
