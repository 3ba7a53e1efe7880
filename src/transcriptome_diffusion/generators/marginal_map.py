"""The marginal map: a monotone function per gene that gives drawn values the distribution of the training values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

#: most quantiles of a gene
MOST_KNOTS = 2000
#: profiles that are drawn to fit the map, per quantile
DRAWS_PER_KNOT = 8
#: genes that are mapped at a time; it bounds memory
GENES = 256
#: most values of these draws in memory
MOST_VALUES = 10**8
#: between the seed of a training and that of the draws its map is fitted to
SEED_OFFSET = 500


def draws_for(profiles: int, genes: int) -> int:
    """How many profiles to draw for the map of a generator fitted to so many ``profiles`` of so many ``genes``."""
    wanted = DRAWS_PER_KNOT * min(profiles, MOST_KNOTS)
    return max(min(wanted, MOST_VALUES // genes), min(profiles, 100))


def memory_of_map(profiles: int, genes: int) -> float:
    """Bytes that fitting the map takes at its peak: the draws, sorted, and a copy on the way."""
    return 12.0 * draws_for(profiles, genes) * genes


def quantiles(values: np.ndarray, count: int) -> np.ndarray:
    """Quantiles of each column of (n, n_genes) at (j - 1/2) / count for j = 1 ... count, (count, n_genes).

    Those of ``numpy.quantile`` with ``method="hazen"``: the sorted values themselves where ``count`` is n.
    """
    ordered = np.sort(values, axis=0)
    if count == len(values):
        return ordered
    place = ((np.arange(count) + 0.5) / count * len(values) - 0.5).clip(0, len(values) - 1)
    low = place.astype(np.int64)
    high = np.minimum(low + 1, len(values) - 1)
    return ordered[low] + (place - low)[:, None].astype(values.dtype) * (ordered[high] - ordered[low])


@dataclass(frozen=True, eq=False)
class MarginalMap:
    """Quantiles of drawn values onto those of training values, gene by gene (quantile mapping).

    It is fitted to many more draws than there are training profiles and then stays as it is, so that a new draw gets
    the distribution of training values but not the values themselves, as ranking it against them would. The order of
    profiles within a gene, and so their rank correlations, stay those of the generator.

    Attributes:
        drawn, real: (n_knots, n_genes), rising along each gene; ``drawn`` is mapped onto ``real``.
    """

    drawn: np.ndarray
    real: np.ndarray

    @classmethod
    def fit(cls, drawn: np.ndarray, train: np.ndarray) -> Self:
        """From draws (m, n_genes) with the labels of the training profiles (n, n_genes)."""
        count = min(len(drawn), len(train), MOST_KNOTS)
        return cls(quantiles(drawn, count), quantiles(train, count))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Values (n, n_genes) mapped, float32: linear between the quantiles, with slope 1 beyond them."""
        mapped = np.empty(values.shape, dtype=np.float32)
        for first in range(0, values.shape[1], GENES):
            genes = slice(first, first + GENES)
            columns, drawn, real = (np.ascontiguousarray(v[:, genes].T) for v in (values, self.drawn, self.real))
            order = np.argsort(columns, axis=1)  # numpy.interp searches from the place of the value before
            for place, column, to, own, theirs in zip(order, columns, mapped[:, genes].T, drawn, real, strict=True):
                to[place] = np.interp(column[place], own, theirs)
            mapped[:, genes] += (columns - columns.clip(drawn[:, :1], drawn[:, -1:])).T
        return mapped
