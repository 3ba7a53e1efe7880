"""Nodes of the diffusion stage: the trained denoiser, drawn from with every sampler."""

from __future__ import annotations

from typing import Any

from transcriptome_diffusion.generators.options import SamplerOptions, SamplingOptions
from transcriptome_diffusion.pipelines import training
from transcriptome_diffusion.pipelines.shared import AnnData


def draw_profiles(denoiser: Any, train: AnnData, sampler: SamplerOptions, options: SamplingOptions) -> AnnData:
    """One synthetic profile per training sample and run, with the training labels (the paper's protocol)."""
    return training.draw_profiles(denoiser, train, options, sampler=sampler)
