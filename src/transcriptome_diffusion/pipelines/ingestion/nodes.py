"""Nodes of the ingestion: tissue, filters and logarithm, then the split by donor."""

from __future__ import annotations

from transcriptome_diffusion.parameters import IngestionOptions, SplitOptions
from transcriptome_diffusion.pipelines.shared import AnnData, DataFrame


def prepare_cohort(raw: AnnData, options: IngestionOptions) -> AnnData:
    """The cohort in log2(x + 1), every sample with its tissue, without tissues that are too small."""
    from transcriptome_diffusion.expression.filters import assign_tissues, drop_small_tissues
    from transcriptome_diffusion.expression.missing import resolve_missing
    from transcriptome_diffusion.expression.units import to_log2

    labelled = drop_small_tissues(assign_tissues(raw, options.tissues), options.min_samples_per_tissue)
    cohort = to_log2(resolve_missing(labelled, options.missing))
    cohort.var["is_landmark"] = False  # until the panel is matched
    return cohort


def split_by_donor(
    cohort: AnnData, options: SplitOptions, ingestion: IngestionOptions
) -> tuple[AnnData, AnnData, AnnData, DataFrame]:
    """Train, validation, test and their sizes; genes are filtered and missing values filled by what train shows."""
    from transcriptome_diffusion.expression.filters import expressed_genes
    from transcriptome_diffusion.expression.missing import impute_from_train
    from transcriptome_diffusion.expression.splitting import split_profiles, summarise_splits

    splits = impute_from_train(split_profiles(cohort, options))
    genes = expressed_genes(splits["train"], ingestion.min_expressed_share)
    kept = {name: part[:, genes].copy() for name, part in splits.items()}
    return kept["train"], kept["validation"], kept["test"], summarise_splits(kept)
