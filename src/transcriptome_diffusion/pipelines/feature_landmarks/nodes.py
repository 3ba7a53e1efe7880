"""Nodes of the landmark panel: match it on the cohort's genes, cut each split to it."""

from __future__ import annotations

from transcriptome_diffusion.expression.options import LandmarkOptions
from transcriptome_diffusion.pipelines.shared import AnnData, DataFrame


def match_panel(train: AnnData, panel: DataFrame) -> DataFrame:
    """Which panel genes the cohort measures, under which name, and how each was matched."""
    from transcriptome_diffusion.expression.landmarks import match_panel

    return match_panel(train.var, panel)


def select_landmarks(profiles: AnnData, gene_panel: DataFrame, options: LandmarkOptions) -> AnnData:
    """The landmark genes that were found, in the order of the panel."""
    from transcriptome_diffusion.expression.landmarks import select_landmarks

    return select_landmarks(profiles, gene_panel, options)
