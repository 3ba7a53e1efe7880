"""Nodes of the diffusion stage: train the denoiser once, sample it with every sampler."""

from __future__ import annotations

from typing import Any

from transcriptome_diffusion.parameters import DiffusionOptions, SamplerOptions, SamplingOptions
from transcriptome_diffusion.pipelines.shared import AnnData


def train_denoiser(train: AnnData, validation: AnnData, options: DiffusionOptions) -> tuple[Any, Any]:
    """The fitted denoiser, and its training curve as a figure."""
    from transcriptome_diffusion.generators.diffusion.model import Diffusion
    from transcriptome_diffusion.reporting.figures import training_curve

    denoiser = Diffusion.fit(train, validation, options)
    return denoiser, training_curve(denoiser.record["curve"], "Training of the denoiser")


def draw_profiles(denoiser: Any, train: AnnData, sampler: SamplerOptions, options: SamplingOptions) -> AnnData:
    """One synthetic profile per training sample, with the training labels (the paper's protocol)."""
    return denoiser.sample(train.obs, seed=options.seed, batch_size=options.batch_size, sampler=sampler)
