"""Node of the landmark panel: cut a split to it."""

from __future__ import annotations

from transcriptome_diffusion.expression.options import LandmarkOptions
from transcriptome_diffusion.pipelines.shared import AnnData, DataFrame


def select_landmarks(profiles: AnnData, gene_panel: DataFrame, options: LandmarkOptions) -> AnnData:
    """The landmark genes that were found, in the order of the panel."""
    from transcriptome_diffusion.expression.landmarks import select_landmarks

    return select_landmarks(profiles, gene_panel, options)
