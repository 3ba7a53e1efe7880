"""Nodes of the ingestion: tissue, filters and logarithm, then the split by donor."""

from __future__ import annotations

from transcriptome_diffusion.expression.options import IngestionOptions, SplitOptions
from transcriptome_diffusion.pipelines.shared import AnnData, DataFrame

#: what makes a cohort fit
SMALLER = "Read fewer samples or genes (the options of `raw_cohort` in the catalog)."


def prepare_cohort(raw: AnnData, options: IngestionOptions) -> AnnData:
    """The cohort in log2(x + 1), every sample with its tissue, without tissues that are too small."""
    from transcriptome_diffusion.expression.filters import assign_tissues, drop_small_tissues
    from transcriptome_diffusion.expression.missing import resolve_missing
    from transcriptome_diffusion.expression.units import to_log2
    from transcriptome_diffusion.memory import require_memory

    copies = 2 if options.missing == "zero" else 1
    require_memory(
        f"taking the logarithm of {raw.n_obs} x {raw.n_vars} values", 4.2 * copies * raw.n_obs * raw.n_vars, SMALLER
    )
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
    from transcriptome_diffusion.memory import require_memory

    # the parts, and while training profiles are copied those of its samples with all genes; medians take more
    size = 12.0 if ingestion.missing == "impute" else 6.5
    what = f"splitting {cohort.n_obs} x {cohort.n_vars} values"
    require_memory(what, size * cohort.n_obs * cohort.n_vars, SMALLER)
    splits = impute_from_train(split_profiles(cohort, options))
    genes = expressed_genes(splits["train"], ingestion.min_expressed_share)
    kept = {name: part[:, genes].copy() for name, part in splits.items()}
    return kept["train"], kept["validation"], kept["test"], summarise_splits(kept)
