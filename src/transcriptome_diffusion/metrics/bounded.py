"""Squared distances in single precision with bounds of their error, and exact ones for the few pairs that need them.

Rough values decide almost every comparison of two distances. ``BoundedDistances`` gives lower bounds of all squared
distances, from products in float32, and how far the true value can lie above. A comparison that this interval does
not decide is repeated with exact distances, sums of squared differences in float64. They are the same to the last bit
for equal pairs of profiles, so that copies tie with copies.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

#: rows per strip of bounds, which takes ``BLOCK * len(b) * 4`` bytes
BLOCK = 512
#: values of profiles held at once, in columns of a product or in float64 differences
CHUNK = 2**22


class BoundedDistances:
    """Profiles (n, n_genes) around a centre, with squared norms and the error that products of them carry.

    Two sets that are compared share the centre, any point near both: it keeps the rounding errors small.

    Raises:
        ValueError: if values are not finite, or so large that their squares are not.
    """

    def __init__(self, values: np.ndarray, centre: np.ndarray) -> None:
        self.values, self._centre = values, centre.astype(np.float32)
        self._norms = np.concatenate(
            [np.einsum("ij,ij->i", x, x) for x in (self._centred(rows) for rows in blocks(len(values)))]
        )
        if not np.isfinite(self._norms).all():
            raise ValueError("distances need finite values; NaN or infinities were found.")
        share = error_share(values.shape[1])
        self._low = (1 - share) * self._norms
        self.slack = 2 * share * self._norms

    def __len__(self) -> int:
        return len(self.values)

    def _centred(self, rows: slice | np.ndarray) -> np.ndarray:
        return (self.values[rows] - self._centre).astype(np.float32, copy=False)

    def lower(self, rows: slice | np.ndarray, other: BoundedDistances, start: int = 0) -> np.ndarray:
        """Lower bounds of |x - y|² for ``rows`` of this and all of ``other`` from row ``start`` on, float32.

        The squared distance of i and j lies between the bound and the bound + ``slack[i] + other.slack[j]``.
        """
        x = -2 * self._centred(rows)
        found = np.empty((len(x), len(other) - start), dtype=np.float32)
        for columns in blocks(len(other), start, max(BLOCK, CHUNK // self.values.shape[1])):
            at = slice(columns.start - start, columns.stop - start)
            np.matmul(x, other._centred(columns).T, out=found[:, at])
        found += self._low[rows, None]
        found += other._low[start:]
        return found

    def exact(self, rows: np.ndarray, other: BoundedDistances, columns: np.ndarray) -> np.ndarray:
        """|x - y|² of the given pairs, (n_pairs,) float64."""
        return exact_squares(self.values, rows, other.values, columns)

    def smallest_bounds(self, k: int) -> np.ndarray:
        """The ``k`` smallest lower bounds from each profile to the others of this set, (n, k), ascending.

        Each pair is computed once: a strip holds the columns from its own rows on, for its rows and its columns.
        """
        best = np.full((len(self), k), np.inf, dtype=np.float32)
        for rows in blocks(len(self)):
            strip = self.lower(rows, self, rows.start)
            size = len(strip)
            strip[np.arange(size), np.arange(size)] = np.inf
            best[rows] = smallest(best[rows], strip, k)
            best[rows.stop :] = smallest(best[rows.stop :], strip[:, size:].T, k)
        return np.sort(best, axis=1)

    def exact_kth(self, rows: np.ndarray, other: BoundedDistances, k: int) -> np.ndarray:
        """|x - y|² from each of ``rows`` to its ``k``-th nearest of ``other`` (itself left out), (n_rows,) float64."""
        found = np.empty(len(rows))
        for part in blocks(len(rows)):
            bounds = self.lower(rows[part], other)
            if other is self:
                bounds[np.arange(len(bounds)), rows[part]] = np.inf
            slack = self.slack[rows[part], None]
            kth = np.partition(bounds, k - 1, axis=1)[:, k - 1 : k]
            nearer = bounds + (slack + other.slack) < kth
            i, j = np.nonzero((bounds <= kth + (slack + other.slack.max())) & ~nearer)
            distances = self.exact(rows[part][i], other, j)
            # candidates of a row lie together, ascending; some of the k nearest are known to come before them
            first = np.searchsorted(i, np.arange(len(bounds)))
            found[part] = distances[np.lexsort((distances, i))][first + k - 1 - nearer.sum(axis=1)]
        return found


def error_share(genes: int) -> np.float32:
    """Error of a squared distance from products in float32, as a share of the sum of both squared norms.

    A product of g terms is off by about sqrt(g) roundings (eps / 2 each) of |x||y| <= (|x|² + |y|²) / 2, and enters
    doubled; 8 sqrt(g) eps (|x|² + |y|²) is 16 times that, and covers the rounding of x - centre.
    """
    return np.float32(8 * np.finfo(np.float32).eps * np.sqrt(genes))


def blocks(stop: int, start: int = 0, size: int | None = None) -> list[slice]:
    """Slices of ``size`` (or ``BLOCK``) rows from ``start`` to ``stop``."""
    size = size or BLOCK
    return [slice(first, min(first + size, stop)) for first in range(start, stop, size)]


class Rows(Protocol):
    """Profiles (n, n_genes) of which some can be taken: an array, or several."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray: ...


def exact_squares(a: Rows, rows: np.ndarray, b: Rows, columns: np.ndarray) -> np.ndarray:
    """|x - y|² of pairs of rows, (n_pairs,) float64, from differences in float64."""
    found = np.empty(len(rows))
    for pairs in blocks(len(rows), size=max(1, CHUNK // a.shape[1])):
        difference = a[rows[pairs]].astype(np.float64) - b[columns[pairs]]
        found[pairs] = np.einsum("ij,ij->i", difference, difference)
    return found


def smallest(best: np.ndarray, more: np.ndarray, k: int) -> np.ndarray:
    """The ``k`` smallest of each row of two arrays; once ``best`` is filled, little of ``more`` comes near it."""
    if len(best) and np.isfinite(best).all():
        limits = best.max(axis=1)
        # in the order of memory, also where ``more`` is a transposed view
        if more.flags.c_contiguous:
            i, j = np.nonzero(more < limits[:, None])
        else:
            j, i = np.nonzero(limits > more.T)
            order = np.argsort(i, kind="stable")
            i, j = i[order], j[order]
        counts = np.bincount(i, minlength=len(best))
        near = np.full((len(best), counts.max()), np.inf, dtype=best.dtype)
        near[i, np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)] = more[i, j]
        more = near
    return np.partition(np.concatenate([best, more], axis=1), k - 1, axis=1)[:, :k]
