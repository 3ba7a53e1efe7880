"""Nodes of the reconstruction: fit on real training donors, apply to synthetic landmarks."""

from __future__ import annotations

from typing import Any

from transcriptome_diffusion.parameters import ReconstructionOptions
from transcriptome_diffusion.pipelines.shared import AnnData


def fit_linear(landmarks: AnnData, expression: AnnData, options: ReconstructionOptions) -> Any:
    """A linear map from landmarks to all genes."""
    from transcriptome_diffusion.reconstruction.linear import LinearReconstructor

    return LinearReconstructor.fit(landmarks, expression, options)


def reconstruct(reconstructor: Any, profiles: AnnData) -> AnnData:
    """Whole transcriptomes for landmark profiles; the landmarks pass through unchanged."""
    return reconstructor.reconstruct(profiles)
