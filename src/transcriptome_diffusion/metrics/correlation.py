"""Whether synthetic profiles keep the gene-gene correlations of real ones, without a genes x genes matrix."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np

from transcriptome_diffusion.metrics.threads import one_thread_if_small

#: genes per block
BLOCK = 1024
#: variance of correlations over pairs of genes that is taken for rounding, in the precision of the profiles
ALIKE = {np.float32: 1e-8, np.float64: 1e-12}


@one_thread_if_small
def correlation_score(real: np.ndarray, synthetic: np.ndarray) -> float:
    """Pearson correlation between the upper triangles of the two gene-gene correlation matrices.

    Viñas et al. (2022), doi:10.1093/bioinformatics/btab035. Best 1; the null value, for two samples of one
    distribution, is below 1 and grows with n; 0 for unrelated structure. Scale and shift of a gene do not
    matter. Exact: with A and B the centred columns of unit length, the correlation matrices are AᵀA and BᵀB,
    and their sums of squares and products are |AAᵀ|², |BBᵀ|² and |ABᵀ|², whose matrices have the size of
    the samples; where samples outnumber genes, blocks of genes are used instead.

    A gene constant in one set alone counts there as uncorrelated with every other, which lowers the score of
    a generator that stops varying a gene; a gene constant in both is left out.

    Products are in the precision of the profiles, their sums in float64.

    Args:
        real, synthetic: (n_samples, n_genes), the numbers of samples may differ.

    Raises:
        ValueError: if the widths differ, a set has fewer than 3 samples, or no structure is left to compare.
    """
    return _score(_Side(real), _Side(synthetic))


class _Side:
    """Profiles (n_samples, n_genes), or the rows of some ``classes`` around their class means."""

    def __init__(self, values: np.ndarray, classes: list[np.ndarray] | None = None) -> None:
        self.values = values
        self.rows = None if classes is None else np.concatenate([*classes, np.empty(0, np.int64)])
        self.sizes = np.array([len(rows) for rows in classes or []], dtype=np.int64)
        self.starts = self.sizes.cumsum() - self.sizes

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape if self.rows is None else (len(self.rows), *self.values.shape[1:])

    def columns(self, genes: np.ndarray | slice) -> np.ndarray:
        """The values of some genes, (n_samples, n_chosen), floating."""
        part = self.values[:, genes]
        if not np.issubdtype(part.dtype, np.floating):
            part = part.astype(np.float64)
        if self.rows is None:
            return part
        part = part[self.rows]
        if len(part):
            sums = np.add.reduceat(part, self.starts, axis=0, dtype=np.float64)
            part -= np.repeat((sums / self.sizes[:, None]).astype(part.dtype), self.sizes, axis=0)
        return part

    @cached_property
    def varies(self) -> np.ndarray:
        """Which genes do, (n_genes,)."""
        return np.concatenate([_varies(self.columns(genes)) for genes in _blocks(self.shape[1])])


def _score(real: _Side, synthetic: _Side) -> float:
    if len(real.shape) != 2 or len(synthetic.shape) != 2 or real.shape[1] != synthetic.shape[1]:
        raise ValueError(f"expected two arrays of equal width, found {real.shape} and {synthetic.shape}.")
    if min(real.shape[0], synthetic.shape[0]) < 3:
        raise ValueError(
            f"correlations need 3 or more samples in each set, found {real.shape[0]} and {synthetic.shape[0]}."
        )
    varies_real, varies_synthetic = real.varies, synthetic.varies
    kept = np.flatnonzero(varies_real | varies_synthetic)
    genes = len(kept)
    pairs = genes * (genes - 1) / 2
    diagonal_real, diagonal_synthetic = int(varies_real.sum()), int(varies_synthetic.sum())
    diagonal_both = int((varies_real & varies_synthetic).sum())

    in_space = _in_gene_space if max(real.shape[0], synthetic.shape[0]) > genes else _in_sample_space
    found = in_space(real, synthetic, kept)
    rr, ss, rs = found.squares
    sum_real = (found.sums[0] - diagonal_real) / 2
    sum_synthetic = (found.sums[1] - diagonal_synthetic) / 2
    variance_real = (rr - diagonal_real) / 2 - sum_real**2 / pairs if pairs else 0.0
    variance_synthetic = (ss - diagonal_synthetic) / 2 - sum_synthetic**2 / pairs if pairs else 0.0
    if min(variance_real, variance_synthetic) <= ALIKE[_precision(real, synthetic)] * pairs:
        raise ValueError(
            f"the correlations of {genes} varying genes are all alike in one of the sets, so that they cannot be "
            "compared; 3 or more genes that vary are needed."
        )
    covariance = (rs - diagonal_both) / 2 - sum_real * sum_synthetic / pairs
    return float(covariance / np.sqrt(variance_real * variance_synthetic))


def _precision(real: _Side, synthetic: _Side) -> type[np.floating]:
    single = np.result_type(real.values, synthetic.values, np.float32) == np.float32
    return np.float32 if single else np.float64


def _varies(values: np.ndarray) -> np.ndarray:
    return values.max(axis=0) > values.min(axis=0)


def _unit_columns(values: np.ndarray, varies: np.ndarray, precision: type[np.floating]) -> np.ndarray:
    """Columns centred and of length 1; those that do not vary become 0."""
    columns = np.subtract(values, values.mean(axis=0, dtype=np.float64).astype(precision), dtype=precision)
    length = np.sqrt(np.einsum("ij,ij->j", columns, columns))
    columns *= np.divide(1, length, out=np.zeros_like(length), where=varies & (length > 0))
    return columns


def _blocks(genes: int) -> Iterator[slice]:
    for start in range(0, genes, BLOCK):
        yield slice(start, start + BLOCK)


class _Sums(NamedTuple):
    """Over all entries of the two correlation matrices: their sums, and sums of squares of each and of products."""

    sums: tuple[float, float]
    squares: tuple[float, float, float]


def _units(real: _Side, synthetic: _Side, genes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Centred columns of length 1 of both sides, a block of ``genes`` at a time."""
    precision = _precision(real, synthetic)
    for chosen in _blocks(len(genes)):
        block: np.ndarray | slice = genes[chosen]
        if genes[chosen][-1] - genes[chosen][0] + 1 == len(genes[chosen]):  # a slice is not copied
            block = slice(genes[chosen][0], genes[chosen][-1] + 1)
        a, b = (_unit_columns(side.columns(block), side.varies[block], precision) for side in (real, synthetic))
        yield a, b


def _in_sample_space(real: _Side, synthetic: _Side, genes: np.ndarray) -> _Sums:
    """From products of samples with samples, in one pass over the genes."""
    n, m = real.shape[0], synthetic.shape[0]
    rows = np.zeros(n + m)
    products = np.zeros((n, n)), np.zeros((m, m)), np.zeros((n, m))
    for a, b in _units(real, synthetic, genes):
        rows += np.concatenate([a.sum(axis=1, dtype=np.float64), b.sum(axis=1, dtype=np.float64)])
        for total, left, right in zip(products, (a, b, a), (a, b, b), strict=True):
            total += left @ right.T
    rr, ss, rs = (float(np.vdot(product, product)) for product in products)
    return _Sums((float(rows[:n] @ rows[:n]), float(rows[n:] @ rows[n:])), (rr, ss, rs))


def _in_gene_space(real: _Side, synthetic: _Side, genes: np.ndarray) -> _Sums:
    """From blocks of rows of the correlation matrices."""
    a, b = (np.concatenate(side, axis=1) for side in zip(*_units(real, synthetic, genes), strict=True))
    squares = np.zeros(3)
    for chosen in _blocks(len(genes)):
        rows, others = (np.asarray(side[:, chosen].T @ side, dtype=np.float64) for side in (a, b))
        squares += np.vdot(rows, rows), np.vdot(others, others), np.vdot(rows, others)
    rr, ss, rs = squares.tolist()
    sums = (float(np.square(side.sum(axis=1, dtype=np.float64)).sum()) for side in (a, b))
    return _Sums((next(sums), next(sums)), (rr, ss, rs))


@one_thread_if_small
def within_class_correlation(
    real: np.ndarray, real_labels: np.ndarray, synthetic: np.ndarray, synthetic_labels: np.ndarray
) -> float:
    """``correlation_score`` of profiles from which the mean of their class in their own set is taken.

    Over all tissues, correlations mostly say which tissues express which genes; this score asks how genes
    vary together within a tissue, pooled over tissues. Best 1; the null is lower than that of the pooled
    score and grows with n, so compare with ``real`` at the same size. A class with one profile in a set has
    nothing to vary and is left out of both; a class of n profiles weighs as its n - 1 degrees of freedom.

    Args:
        real, synthetic: (n_samples, n_genes) in any gene-wise scale.
        real_labels, synthetic_labels: one class per row.

    Raises:
        ValueError: if the widths differ, or classes with two profiles in both sets hold fewer than 3 profiles.
    """
    shared = [
        label
        for label in np.unique(real_labels)
        if min((real_labels == label).sum(), (synthetic_labels == label).sum()) > 1
    ]
    sides = (
        _Side(values, [np.flatnonzero(labels == label) for label in shared])
        for values, labels in ((real, real_labels), (synthetic, synthetic_labels))
    )
    return _score(*sides)
