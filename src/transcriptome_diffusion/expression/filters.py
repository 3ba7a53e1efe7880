"""Which samples get a tissue, which tissues are large enough, which genes are expressed."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import anndata as ad
import pandas as pd

from transcriptome_diffusion.expression.profiles import blocks_of

logger = logging.getLogger(__name__)


def assign_tissues(cohort: ad.AnnData, tissues: Mapping[str, str] | None) -> ad.AnnData:
    """Write ``obs["tissue"]`` from ``obs["source"]`` and drop the samples of sources without a tissue.

    The result shares the cohort's values: a copy of all of them would be gigabytes, and is not needed.

    Args:
        cohort: (n_samples, n_genes) with ``obs["source"]``.
        tissues: source to tissue; None keeps the tissue the cohort brings along.

    Raises:
        ValueError: if the cohort has no column to read the tissue from, or no source has a tissue.
    """
    column = "source" if tissues is not None else "tissue"
    if column not in cohort.obs:
        mend = "name each source's tissue in `tissues`" if tissues is None else "set `tissues` to null"
        raise ValueError(f"the cohort has no column {column!r} but {list(cohort.obs)}; {mend}.")
    if tissues is None:
        return cohort
    tissue = cohort.obs["source"].astype(str).map(dict(tissues))
    unmapped = cohort.obs.loc[tissue.isna(), "source"].astype(str).value_counts()
    if len(unmapped) and tissue.isna().all():
        raise ValueError(
            f"none of the cohort's sources {sorted(unmapped.index)} is among those that `tissues` names: "
            f"{sorted(tissues)}."
        )
    if len(unmapped):
        logger.info("Dropped %d samples of sources without a tissue: %s", unmapped.sum(), _counts(unmapped))
    obs = cohort.obs.assign(tissue=tissue)
    labelled = ad.AnnData(X=cohort.X, obs=obs, var=cohort.var, uns=dict(cohort.uns))
    return labelled[tissue.notna().to_numpy()]


def drop_small_tissues(cohort: ad.AnnData, min_samples: int) -> ad.AnnData:
    """A view of the cohort without the tissues of fewer than ``min_samples`` samples, which the log names.

    Raises:
        ValueError: if no tissue is left.
    """
    counts = cohort.obs["tissue"].astype(str).value_counts()
    small = counts[counts < min_samples]
    if len(small) == len(counts):
        raise ValueError(
            f"no tissue has {min_samples} samples; the cohort has {_counts(counts) or 'none'}. "
            "Lower min_samples_per_tissue."
        )
    if small.empty:
        return cohort
    logger.info("Dropped tissues with fewer than %d samples: %s", min_samples, _counts(small))
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


def _counts(counts: pd.Series) -> str:
    more = f" and {len(counts) - 30} others" if len(counts) > 30 else ""
    return ", ".join(f"{name} ({count})" for name, count in counts.sort_index().head(30).items()) + more
