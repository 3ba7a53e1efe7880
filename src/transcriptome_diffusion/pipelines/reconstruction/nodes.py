"""Nodes of the reconstruction: fit on real training donors, apply to synthetic landmarks."""

from __future__ import annotations

from typing import Any

from transcriptome_diffusion.generators.options import SamplingOptions
from transcriptome_diffusion.pipelines.shared import AnnData
from transcriptome_diffusion.reconstruction.options import MLPReconstructionOptions, ReconstructionOptions


def fit_linear(
    landmarks: AnnData,
    expression: AnnData,
    other_landmarks: AnnData,
    other_expression: AnnData,
    options: ReconstructionOptions,
) -> Any:
    """A linear map from landmarks to all genes; other donors show what it leaves over."""
    from transcriptome_diffusion.reconstruction.linear import LinearReconstructor

    return LinearReconstructor.fit(landmarks, expression, other_landmarks, other_expression, options)


def fit_mlp(
    landmarks: AnnData,
    expression: AnnData,
    other_landmarks: AnnData,
    other_expression: AnnData,
    options: MLPReconstructionOptions,
) -> Any:
    """A perceptron from landmarks to all genes, stopped by other donors."""
    from transcriptome_diffusion.reconstruction.mlp import MLPReconstructor

    return MLPReconstructor.fit(landmarks, expression, other_landmarks, other_expression, options)


def reconstruct(reconstructor: Any, profiles: AnnData) -> AnnData:
    """Whole transcriptomes for landmark profiles; the landmarks pass through unchanged."""
    return reconstructor.reconstruct(profiles)


def reconstruct_with_noise(reconstructor: Any, profiles: AnnData, options: SamplingOptions) -> AnnData:
    """The same with residuals drawn as other donors have them."""
    return reconstructor.reconstruct(profiles, noise_seed=options.seed)
