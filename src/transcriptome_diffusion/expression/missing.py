"""Missing values: refused, dropped with their genes, set to zero, or filled from what training samples show."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal

import anndata as ad
import numpy as np

from transcriptome_diffusion.expression.profiles import blocks_of, dense

logger = logging.getLogger(__name__)


def resolve_missing(cohort: ad.AnnData, how: Literal["refuse", "drop", "impute", "zero"]) -> ad.AnnData:
    """Deal with NaN in a whole cohort, as far as that needs no other sample's values.

    Args:
        cohort: (n_samples, n_genes), NaN where a gene was not measured in a sample.
        how: ``refuse``; ``drop`` the genes that miss a sample; ``zero``, which is what Lacan et al. (2026) do; or
            ``impute``, which leaves them to ``impute_from_train``.

    Raises:
        ValueError: if values are missing and ``how`` refuses them, or no gene is complete.
    """
    if how == "impute":
        return cohort
    # NaN + x is NaN: sums find them without a mask as large as the matrix
    incomplete = np.isnan(sum(block.sum(axis=0) for _, block in blocks_of(cohort)))
    if not incomplete.any():
        return cohort
    found = f"{incomplete.sum()} of {cohort.n_vars} genes"
    if how == "refuse":
        gene = int(incomplete.argmax())
        row = int(np.isnan(dense(cohort[:, gene])).argmax())
        raise ValueError(
            f"{found} have missing values, the first in sample {cohort.obs_names[row]!r}, gene "
            f"{cohort.var_names[gene]!r}. Set `missing` of the ingestion to drop (the genes), impute (from training "
            "samples) or zero."
        )
    if how == "zero":
        logger.warning("Set missing values in %s to zero", found)
        filled = cohort.copy()
        np.nan_to_num(filled.X, copy=False)
        return filled
    if incomplete.all():
        raise ValueError("every gene misses a sample; set `missing` of the ingestion to impute or zero.")
    logger.info("Dropped %s, not measured in every sample", found)
    return cohort[:, ~incomplete]


def impute_from_train(splits: Mapping[str, ad.AnnData]) -> dict[str, ad.AnnData]:
    """Fill NaN in every split by the gene's median over the training samples; held-out samples are not asked.

    Args:
        splits: ``train`` and others of the same genes, in one unit.

    Returns:
        The splits; genes that no training sample measures are dropped from all of them.
    """
    if not any(np.isnan(block.sum()) for part in splits.values() for _, block in blocks_of(part)):
        return dict(splits)
    train = dense(splits["train"])
    measured = ~np.isnan(train).all(axis=0)
    median = np.nanmedian(train[:, measured], axis=0)
    if not measured.all():
        logger.warning("Dropped %d genes that no training sample measures", (~measured).sum())
    filled = {}
    for name, part in splits.items():
        kept = part[:, measured].copy()
        values = dense(kept)
        rows, genes = np.nonzero(np.isnan(values))
        values[rows, genes] = median[genes]
        kept.X = values
        logger.info("Filled %d missing values of %s by the training samples' medians", len(rows), name)
        filled[name] = kept
    return filled
