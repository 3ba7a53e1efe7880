"""Which tissues are large enough, which genes are expressed."""

from __future__ import annotations

import logging

import anndata as ad
import pandas as pd

from transcriptome_diffusion.expression.labels import counted
from transcriptome_diffusion.expression.profiles import blocks_of

logger = logging.getLogger(__name__)


def drop_small_tissues(cohort: ad.AnnData, min_samples: int) -> ad.AnnData:
    """A view of the cohort without the tissues of fewer than ``min_samples`` samples, which the log names.

    Raises:
        ValueError: if no tissue is left.
    """
    counts = cohort.obs["tissue"].astype(str).value_counts()
    small = counts[counts < min_samples]
    if len(small) == len(counts):
        raise ValueError(
            f"no tissue has {min_samples} samples; the cohort has {counted(counts) or 'none'}. "
            "Lower min_samples_per_tissue."
        )
    if len(counts) - len(small) == 1:
        logger.warning(
            "The cohort has one class, %r: classifiers and whatever else compares classes have nothing to compare. "
            "Lower min_samples_per_tissue, or choose another column as ingestion.label.",
            counts.index[0],
        )
    if small.empty:
        return cohort
    logger.info("Dropped tissues with fewer than %d samples: %s", min_samples, counted(small))
    return cohort[~cohort.obs["tissue"].astype(str).isin(small.index).to_numpy()]


def expressed_genes(train: ad.AnnData, min_share: float) -> pd.Index:
    """The genes above zero in at least ``min_share`` of the training samples; 0 keeps every gene.

    Raises:
        ValueError: if no gene is left.
    """
    share = sum((block > 0).sum(axis=0) for _, block in blocks_of(train)) / train.n_obs
    kept = train.var_names[share >= min_share]
    if kept.empty:
        raise ValueError(
            f"no gene is above zero in a share of {min_share} of the training samples, the best reaches "
            f"{share.max():.2f}. Lower min_expressed_share."
        )
    if len(kept) < train.n_vars:
        logger.info("Dropped %d of %d genes as unexpressed", train.n_vars - len(kept), train.n_vars)
    return kept
