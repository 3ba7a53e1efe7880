"""From landmark genes to the whole transcriptome."""

from transcriptome_diffusion.reconstruction.registry import (
    RECONSTRUCTORS,
    ReconstructorSpec,
    fit_reconstructor,
    load_reconstructor,
    reconstruct,
    reconstructor_of,
)

__all__ = [
    "RECONSTRUCTORS",
    "ReconstructorSpec",
    "fit_reconstructor",
    "load_reconstructor",
    "reconstruct",
    "reconstructor_of",
]
