"""Nodes of the baselines: fit a registered generator, draw one profile per training sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transcriptome_diffusion.generators.registry import Entry
from transcriptome_diffusion.parameters import SamplingOptions
from transcriptome_diffusion.pipelines.shared import AnnData


def fitting(entry: Entry) -> Callable[..., Any]:
    """The fit node of one generator; its annotation lets Kedro validate that generator's own parameters."""

    def fit(train: AnnData, validation: AnnData, options: Any) -> Any:
        from transcriptome_diffusion.generators.registry import generator_class

        return generator_class(entry).fit(train, validation, options)

    fit.__annotations__["options"] = entry.options
    return fit


def draw_profiles(generator: Any, train: AnnData, options: SamplingOptions) -> AnnData:
    """One synthetic profile per training sample, with the training labels (the paper's protocol)."""
    return generator.sample(train.obs, seed=options.seed, batch_size=options.batch_size)
