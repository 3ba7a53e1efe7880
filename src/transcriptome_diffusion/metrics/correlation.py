"""Whether synthetic profiles keep the gene-gene correlations of real ones, without a genes x genes matrix."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

#: genes per block, in float64
BLOCK = 1024


def correlation_score(real: np.ndarray, synthetic: np.ndarray) -> float:
    """Pearson correlation between the upper triangles of the two gene-gene correlation matrices.

    Viñas et al. (2022), doi:10.1093/bioinformatics/btab035. Best 1; the null value, for two samples of one
    distribution, is below 1 and grows with n; 0 for unrelated structure. Scale and shift of a gene do not
    matter. Exact: with A and B the centred columns of unit length, the correlation matrices are AᵀA and BᵀB,
    and their sums of squares and products are |AAᵀ|², |BBᵀ|² and |ABᵀ|², whose matrices have the size of
    the samples; where samples outnumber genes, blocks of genes are used instead.

    A gene constant in one set alone counts there as uncorrelated with every other (a generator that stops
    varying a gene pays for it); a gene constant in both is left out.

    Args:
        real, synthetic: (n_samples, n_genes), the numbers of samples may differ.

    Raises:
        ValueError: if the widths differ, a set has fewer than 3 samples, or no structure is left to compare.
    """
    if real.ndim != 2 or synthetic.ndim != 2 or real.shape[1] != synthetic.shape[1]:
        raise ValueError(f"expected two arrays of equal width, found {real.shape} and {synthetic.shape}.")
    if min(len(real), len(synthetic)) < 3:
        raise ValueError(f"correlations need 3 or more samples in each set, found {len(real)} and {len(synthetic)}.")
    varies_real, varies_synthetic = _varies(real), _varies(synthetic)
    kept = np.flatnonzero(varies_real | varies_synthetic)
    genes = len(kept)
    pairs = genes * (genes - 1) / 2
    diagonal_real, diagonal_synthetic = int(varies_real.sum()), int(varies_synthetic.sum())
    diagonal_both = int((varies_real & varies_synthetic).sum())

    sum_real = (_sum_of_products(real, kept) - diagonal_real) / 2
    sum_synthetic = (_sum_of_products(synthetic, kept) - diagonal_synthetic) / 2
    in_space = _in_gene_space if max(len(real), len(synthetic)) > genes else _in_sample_space
    rr, ss, rs = in_space(real, synthetic, kept)
    variance_real = (rr - diagonal_real) / 2 - sum_real**2 / pairs if pairs else 0.0
    variance_synthetic = (ss - diagonal_synthetic) / 2 - sum_synthetic**2 / pairs if pairs else 0.0
    if min(variance_real, variance_synthetic) <= 1e-12 * pairs:
        raise ValueError(
            f"the correlations of {genes} varying genes are all alike in one of the sets, so that they cannot be "
            "compared; 3 or more genes that vary are needed."
        )
    covariance = (rs - diagonal_both) / 2 - sum_real * sum_synthetic / pairs
    return float(covariance / np.sqrt(variance_real * variance_synthetic))


def _varies(values: np.ndarray) -> np.ndarray:
    return values.max(axis=0) > values.min(axis=0)


def _unit_columns(values: np.ndarray) -> np.ndarray:
    """Columns centred and of length 1, float64; constant columns become 0."""
    columns = values - values.mean(axis=0, dtype=np.float64)
    columns[:, ~_varies(values)] = 0.0
    length = np.sqrt(np.einsum("ij,ij->j", columns, columns))
    return columns / np.where(length > 0, length, 1.0)


def _blocks(genes: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(genes), BLOCK):
        yield genes[start : start + BLOCK]


def _sum_of_products(values: np.ndarray, genes: np.ndarray) -> float:
    """The sum over all entries of the correlation matrix of ``genes``."""
    total = np.zeros(len(values))
    for block in _blocks(genes):
        total += _unit_columns(values[:, block]).sum(axis=1)
    return float(total @ total)


def _in_sample_space(real: np.ndarray, synthetic: np.ndarray, genes: np.ndarray) -> tuple[float, float, float]:
    """Sums of squares and products of AᵀA and BᵀB, from products of samples with samples, one at a time."""

    def squared(x: np.ndarray, y: np.ndarray) -> float:
        product = np.zeros((len(x), len(y)))
        for block in _blocks(genes):
            columns = _unit_columns(x[:, block])
            product += columns @ (columns if x is y else _unit_columns(y[:, block])).T
        return float(np.vdot(product, product))

    return squared(real, real), squared(synthetic, synthetic), squared(real, synthetic)


def _in_gene_space(real: np.ndarray, synthetic: np.ndarray, genes: np.ndarray) -> tuple[float, float, float]:
    """The same, from blocks of rows of the correlation matrices."""
    a, b = _unit_columns(real[:, genes]), _unit_columns(synthetic[:, genes])
    sums = np.zeros(3)
    for i in range(0, len(genes), BLOCK):
        rows, others = a[:, i : i + BLOCK].T @ a, b[:, i : i + BLOCK].T @ b
        sums += np.vdot(rows, rows), np.vdot(others, others), np.vdot(rows, others)
    return float(sums[0]), float(sums[1]), float(sums[2])
