"""Nodes of the ingestion: label and logarithm, the split by donor, then what the training part decides of the genes."""

from __future__ import annotations

from transcriptome_diffusion.expression.options import IngestionOptions, SplitOptions
from transcriptome_diffusion.pipelines.shared import AnnData, DataFrame

#: what makes a cohort fit
SMALLER = "Read fewer samples or genes (the options of `raw_cohort` in the catalog)."


def prepare_cohort(raw: AnnData, options: IngestionOptions) -> AnnData:
    """The cohort in log2(x + 1), every sample with its class label, without classes that are too small.

    Read counts become counts (or transcripts) per million on the way; a transformed scale stays as it is.
    """
    from transcriptome_diffusion.expression.filters import drop_small_tissues
    from transcriptome_diffusion.expression.labels import label_samples
    from transcriptome_diffusion.expression.missing import resolve_missing
    from transcriptome_diffusion.expression.normalise import is_counts, log2_of_counts
    from transcriptome_diffusion.expression.unit_check import check_unit
    from transcriptome_diffusion.expression.units import keep_transformed, to_log2
    from transcriptome_diffusion.memory import require_memory

    if options.normalise != "cpm" and not is_counts(raw):
        raise ValueError(
            f"`ingestion.normalise: {options.normalise}` is for read counts, and the cohort is in {raw.uns['unit']}. "
            "Declare `unit: counts` in the catalog if it holds counts, or leave `normalise` at cpm."
        )
    copies = 1 + (options.missing == "zero") + 2 * is_counts(raw)
    require_memory(
        f"taking the logarithm of {raw.n_obs} x {raw.n_vars} values", 4.2 * copies * raw.n_obs * raw.n_vars, SMALLER
    )
    transformed = raw.uns.get("scale") == "transformed"
    if transformed and (options.min_expressed_share or options.missing == "zero"):
        raise ValueError(
            f"{raw.uns['unit']} is a transformed scale, in which zero is not the lowest value: set "
            "`ingestion.min_expressed_share` to 0 and `ingestion.missing` to refuse, drop or impute."
        )
    if not transformed:
        check_unit(raw, options.unit_check)
    labelled = drop_small_tissues(label_samples(raw, options), options.min_samples_per_tissue)
    complete = resolve_missing(labelled, options.missing)
    if transformed:
        return keep_transformed(complete)
    return log2_of_counts(complete, options.normalise) if is_counts(complete) else to_log2(complete)


def split_samples(cohort: AnnData, options: SplitOptions) -> tuple[DataFrame, DataFrame]:
    """Which samples are for training, validation and test, and how many of each label these are.

    One sample under two names is kept on one side.
    """
    from transcriptome_diffusion.expression.splitting import assign_splits, find_twins, summarise_splits

    table = assign_splits(cohort.obs, options, find_twins(cohort))
    return table, summarise_splits(table)


def filter_genes(
    cohort: AnnData, split: DataFrame, landmark_genes: DataFrame, options: IngestionOptions
) -> tuple[AnnData, AnnData, AnnData, DataFrame]:
    """Train, validation and test with the genes that train shows, missing values filled from train, landmarks marked.

    The last result is the table of the landmark panel: which genes were found, and how.
    """
    from transcriptome_diffusion.expression.filters import expressed_genes
    from transcriptome_diffusion.expression.landmarks import match_panel
    from transcriptome_diffusion.expression.missing import impute_from_train
    from transcriptome_diffusion.expression.normalise import scale_by_train
    from transcriptome_diffusion.expression.splitting import take_splits
    from transcriptome_diffusion.memory import require_memory

    # the parts, and while training profiles are copied those of its samples with all genes; medians take more
    size = (12.0 if options.missing == "impute" else 6.5) * (1 + bool(cohort.layers))
    what = f"splitting {cohort.n_obs} x {cohort.n_vars} values"
    require_memory(what, size * cohort.n_obs * cohort.n_vars, SMALLER)
    splits = take_splits(cohort, split)
    if options.normalise in ("tmm", "size_factors"):
        splits = scale_by_train(splits, options.normalise)
    splits = impute_from_train(splits)
    genes = expressed_genes(splits["train"], options.min_expressed_share)
    kept = {name: part[:, genes].copy() for name, part in splits.items()}
    gene_panel = match_panel(kept["train"].var, landmark_genes)
    for part in kept.values():
        part.var["is_landmark"] = part.var_names.isin(gene_panel["gene"])
    return kept["train"], kept["validation"], kept["test"], gene_panel
