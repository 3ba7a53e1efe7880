"""Whether synthetic profiles keep the gene-gene correlations of real ones, without a genes x genes matrix."""

from __future__ import annotations

from functools import cached_property
from typing import Self

import numpy as np

from transcriptome_diffusion.metrics.bounded import blocks
from transcriptome_diffusion.metrics.threads import one_thread_if_small

#: rows of a product of all genes, or of all samples, at once
BLOCK = 4096
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
    return agreement(Correlations(real), Correlations(synthetic))


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
    sides = ((real, real_labels), (synthetic, synthetic_labels))
    return agreement(*(Correlations.within(values, labels, shared) for values, labels in sides))


class Correlations:
    """All gene-gene correlations of a set of profiles, as its centred columns of unit length.

    Attributes:
        units: these columns, (n_samples, n_genes), in the precision of the profiles; 0 where a gene does not vary.
        varies: which genes do, (n_genes,).
    """

    def __init__(self, values: np.ndarray) -> None:
        values = values if np.issubdtype(values.dtype, np.floating) else values.astype(np.float64)
        if values.ndim != 2 or len(values) < 3:
            raise ValueError(f"correlations need 3 or more samples in each set, found an array {values.shape}.")
        self.varies = values.max(axis=0) > values.min(axis=0)
        self.units = values - values.mean(axis=0, dtype=np.float64).astype(values.dtype)
        length = np.sqrt(np.einsum("ij,ij->j", self.units, self.units))
        self.units *= np.divide(1, length, out=np.zeros_like(length), where=self.varies & (length > 0))

    @classmethod
    def within(cls, values: np.ndarray, labels: np.ndarray, classes: list[str] | None = None) -> Self:
        """Those of profiles less the mean of their class, of some ``classes``; else of all with two profiles."""
        if classes is None:
            names, counts = np.unique(labels, return_counts=True)
            classes = list(names[counts > 1])
        rows = [np.flatnonzero(labels == label) for label in classes]
        part = values[np.concatenate([*rows, np.empty(0, np.int64)])]
        part = part if np.issubdtype(part.dtype, np.floating) else part.astype(np.float64)
        sizes = np.array([len(of) for of in rows], dtype=np.int64)
        if len(part):
            sums = np.add.reduceat(part, sizes.cumsum() - sizes, axis=0, dtype=np.float64)
            part -= np.repeat((sums / sizes[:, None]).astype(part.dtype), sizes, axis=0)
        return cls(part)

    @cached_property
    def sum(self) -> float:
        """Of all entries of the correlation matrix."""
        return float(np.square(self.units.sum(axis=1, dtype=np.float64)).sum())

    @cached_property
    def squares(self) -> float:
        """Sum of the squares of all entries."""
        units = self.units if len(self.units) <= self.units.shape[1] else self.units.T
        return _sum_of_products(units, units.T)


def agreement(real: Correlations, synthetic: Correlations) -> float:
    """The score of ``correlation_score``, from the two sets' correlations."""
    a, b = real.units, synthetic.units
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"expected two arrays of equal width, found {a.shape} and {b.shape}.")
    genes = int((real.varies | synthetic.varies).sum())
    pairs = genes * (genes - 1) / 2
    diagonal_real, diagonal_synthetic = int(real.varies.sum()), int(synthetic.varies.sum())
    diagonal_both = int((real.varies & synthetic.varies).sum())

    wide = max(len(a), len(b)) <= a.shape[1]
    products = _sum_of_products(a, b.T) if wide else _sum_of_products(a.T, a, b.T, b)
    sum_real, sum_synthetic = (real.sum - diagonal_real) / 2, (synthetic.sum - diagonal_synthetic) / 2
    variance_real = (real.squares - diagonal_real) / 2 - sum_real**2 / pairs if pairs else 0.0
    variance_synthetic = (synthetic.squares - diagonal_synthetic) / 2 - sum_synthetic**2 / pairs if pairs else 0.0
    single = np.result_type(a, b, np.float32) == np.float32
    if min(variance_real, variance_synthetic) <= ALIKE[np.float32 if single else np.float64] * pairs:
        raise ValueError(
            f"the correlations of {genes} varying genes are all alike in one of the sets, so that they cannot be "
            "compared; 3 or more genes that vary are needed."
        )
    covariance = (products - diagonal_both) / 2 - sum_real * sum_synthetic / pairs
    return float(covariance / np.sqrt(variance_real * variance_synthetic))


def _sum_of_products(
    left: np.ndarray, right: np.ndarray, other_left: np.ndarray | None = None, other_right: np.ndarray | None = None
) -> float:
    """Sum over all entries of left @ right times those of another product, by default of the same; in float64."""
    total = 0.0
    for rows in blocks(len(left), size=BLOCK):
        product = left[rows] @ right
        other = product if other_left is None or other_right is None else other_left[rows] @ other_right
        total += float(np.einsum("ij,ij->i", product, other).sum(dtype=np.float64))
    return total
