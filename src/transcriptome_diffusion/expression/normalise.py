"""Read counts brought to one sequencing depth: CPM, TMM, median of ratios, TPM.

The counts stay in ``layers["counts"]``, ``obs["library_size"]`` is their sum in a sample. What needs other samples, a
reference sample or the geometric means of genes, is estimated from training samples alone, and then applied to all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Literal

import anndata as ad
import numpy as np
from scipy.stats import rankdata

from transcriptome_diffusion.expression.profiles import BLOCK, blocks_of, dense, make_profiles
from transcriptome_diffusion.expression.units import COUNTS, log2_unit

logger = logging.getLogger(__name__)

MILLION = 1e6
#: shares of the genes with the most extreme ratios and levels that TMM leaves out
TRIM_RATIOS, TRIM_LEVELS = 0.3, 0.05


def log2_of_counts(profiles: ad.AnnData, how: Literal["cpm", "tmm", "size_factors", "tpm"]) -> ad.AnnData:
    """Read counts as log2(CPM + 1), or log2(TPM + 1), with the counts beside them.

    Args:
        profiles: (n_samples, n_genes), read counts; NaN where missing.
        how: ``tpm`` divides by ``var["length"]``, in bases, first. The others start from counts per million;
            ``tmm`` and ``size_factors`` follow with ``scale_by_train``, once training samples are known.

    Raises:
        ValueError: if a value is negative, a sample has no read, or a gene has no length where that is needed.
    """
    lowest = min(float(np.nanmin(block)) for _, block in blocks_of(profiles))
    if lowest < 0:
        raise ValueError(f"read counts must not be negative, found {lowest:g}. Declare the unit that the values have.")
    counts = np.array(dense(profiles), dtype=np.float32)
    rates = counts / _lengths(profiles) if how == "tpm" else counts
    sums = np.asarray(np.nansum(rates, axis=1, dtype=np.float64))
    if (empty := profiles.obs_names[sums == 0]).size:
        raise ValueError(f"{len(empty)} samples have no read: {', '.join(empty[:5])}. Remove them.")
    unit = log2_unit("TPM" if how == "tpm" else "CPM")
    logged = make_profiles(_log2_per_million(rates, sums), profiles.obs, profiles.var, unit, missing=True)
    logged.layers["counts"] = counts
    libraries = np.nansum(counts, axis=1, dtype=np.float64)
    logged.obs["library_size"], logged.obs["size_factor"] = libraries, 1.0
    logger.info("Normalised counts to %s; libraries have %.3g to %.3g reads", unit, libraries.min(), libraries.max())
    return logged


def scale_by_train(splits: Mapping[str, ad.AnnData], how: Literal["tmm", "size_factors"]) -> dict[str, ad.AnnData]:
    """The splits with libraries scaled by factors whose reference is taken from ``train``; log2(CPM + 1) as before.

    Args:
        splits: ``train`` and others of the same genes, as ``log2_of_counts`` made them.
        how: ``tmm``, after which CPM are counts over library size times factor; or ``size_factors``, after which they
            are counts over size factor times the mean library of the training samples, as DESeq2's ``fpm`` has them.

    Returns:
        New profiles; ``obs["size_factor"]`` holds the factor.

    Raises:
        ValueError: if counts are missing, or no gene has reads in every training sample (``size_factors``).
    """
    train = np.asarray(splits["train"].layers["counts"])
    if any(np.isnan(part.layers["counts"]).any() for part in splits.values()):
        raise ValueError(
            f"`normalise: {how}` needs all counts, and some are missing. Set `ingestion.missing` to drop or zero."
        )
    factor = trimmed_mean_of_m(train) if how == "tmm" else median_of_ratios(train)
    mean_library = float(train.sum(axis=1, dtype=np.float64).mean())
    scaled = {}
    for name, part in splits.items():
        counts = np.array(part.layers["counts"])
        factors = np.array([factor(sample) for sample in counts])
        depth = counts.sum(axis=1, dtype=np.float64) * factors if how == "tmm" else factors * mean_library
        result = make_profiles(_log2_per_million(counts, depth), part.obs, part.var, str(part.uns["unit"]))
        result.layers["counts"] = counts
        result.obs["size_factor"] = factors
        scaled[name] = result
        logger.info("%s: factors of %s from %.3g to %.3g", name, how, factors.min(), factors.max())
    return scaled


def trimmed_mean_of_m(train: np.ndarray) -> Callable[[np.ndarray], float]:
    """Factors of library sizes by the trimmed mean of M values, as edgeR's ``calcNormFactors`` has them.

    Robinson & Oshlack (2010), doi:10.1186/gb-2010-11-3-r25. The reference is the training sample whose upper quartile
    is nearest to the mean of all; the factors of the training samples have the geometric mean 1.

    Args:
        train: (n_samples, n_genes), read counts.

    Returns:
        The factor of a sample, given its counts, (n_genes,).
    """
    train = np.asarray(train, dtype=np.float64)
    quartiles = np.quantile(train[:, train.sum(axis=0) > 0], 0.75, axis=1) / train.sum(axis=1)
    if np.median(quartiles) < 1e-20:
        place = int(np.sqrt(train).sum(axis=1).argmax())
    else:
        place = int(np.abs(quartiles - quartiles.mean()).argmin())
    reference = train[place].copy()
    total = reference.sum()

    def against_reference(sample: np.ndarray) -> float:
        sample = np.asarray(sample, dtype=np.float64)
        both = (sample > 0) & (reference > 0)
        here, there = sample[both] / sample.sum(), reference[both] / total
        ratios = np.log2(here / there)
        if not both.any() or np.abs(ratios).max() < 1e-6:
            return 1.0
        levels = np.log2(here * there) / 2
        weights = 1 / ((1 - here) / sample[both] + (1 - there) / reference[both])
        kept = _inner(ratios, TRIM_RATIOS) & _inner(levels, TRIM_LEVELS)
        return float(2 ** np.average(ratios[kept], weights=weights[kept])) if kept.any() else 1.0

    mean = float(np.exp(np.mean([np.log(against_reference(sample)) for sample in train])))
    return lambda sample: against_reference(sample) / mean


def median_of_ratios(train: np.ndarray) -> Callable[[np.ndarray], float]:
    """Size factors by the median of ratios to the genes' geometric means, as DESeq2 has them.

    Anders & Huber (2010), doi:10.1186/gb-2010-11-10-r106. The means are those of the training samples.

    Args:
        train: (n_samples, n_genes), read counts.

    Returns:
        The size factor of a sample, given its counts, (n_genes,).

    Raises:
        ValueError: if no gene has reads in every training sample.
    """
    means = np.full(train.shape[1], -np.inf)
    complete = (train > 0).all(axis=0)
    if not complete.any():
        raise ValueError(
            f"no gene has reads in each of the {len(train)} training samples, which the median of ratios needs. Set "
            "`normalise` of the ingestion to tmm or cpm."
        )
    means[complete] = np.log(train[:, complete], dtype=np.float64).mean(axis=0)

    def factor(sample: np.ndarray) -> float:
        both = complete & (sample > 0)
        return float(np.exp(np.median(np.log(sample[both], dtype=np.float64) - means[both]))) if both.any() else 1.0

    return factor


def _inner(values: np.ndarray, share: float) -> np.ndarray:
    """Which values are neither in the lowest nor in the highest ``share``."""
    low = np.floor(len(values) * share) + 1
    ranks = rankdata(values)
    return (ranks >= low) & (ranks <= len(values) + 1 - low)


def _log2_per_million(values: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """log2(x + 1) of values (n_samples, n_genes) per million of ``depth``, (n_samples,)."""
    logged = np.empty(values.shape, dtype=np.float32)
    for start in range(0, len(values), BLOCK):
        rows = slice(start, start + BLOCK)
        logged[rows] = np.log1p(values[rows] * (MILLION / depth[rows, None])) / np.log(2)
    return logged


def _lengths(profiles: ad.AnnData) -> np.ndarray:
    """The genes' lengths in bases, (n_genes,)."""
    if "length" not in profiles.var:
        raise ValueError(
            "`normalise: tpm` needs the genes' lengths, and the cohort has none. Name the column with them, as in "
            "gene_columns: {length: ...}, in the options of the cohort, or set `normalise` to cpm."
        )
    lengths = profiles.var["length"].astype(float).to_numpy()
    if (faulty := ~(lengths > 0)).any():
        raise ValueError(
            f"{faulty.sum()} of {len(lengths)} genes have no length above 0, the first is "
            f"{profiles.var_names[faulty][0]!r}; `normalise: tpm` needs that of each. Complete the gene table."
        )
    return lengths.astype(np.float32)


def is_counts(profiles: ad.AnnData) -> bool:
    """Whether linear profiles are declared as read counts."""
    return profiles.uns.get("unit") == COUNTS
