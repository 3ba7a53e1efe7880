"""Euclidean nearest neighbours in blocks: no array of all pairs, and copies at distance exactly 0."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from transcriptome_diffusion.metrics.bounded import blocks, exact_squares, smallest
from transcriptome_diffusion.metrics.threads import one_thread_if_small

#: rows per block; a block of distances takes ``BLOCK * len(b) * 8`` bytes
BLOCK = 512
#: squared distances below this share of both squared norms are not left to products in single precision
NEAR = 0.01
#: share of a block's pairs beyond which differences of each cost more than products in double precision
MANY = 0.01


def distance_blocks(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the rows of ``a`` in blocks, each with its distances to all rows of ``b``, (rows, len(b)) float64.

    Uses |x - y|² = |x|² + |y|² - 2xy in the precision of the profiles, on data centred at the mean of ``b`` since
    the rounding error grows with |x|². Distances of float32 profiles are good to about 1e-5: what is smaller than
    ``NEAR`` of the norms comes from differences in float64, so that copies tie with copies.

    Raises:
        ValueError: if the widths differ, an array is empty, or values are not finite.
    """
    pairs = _Pairs(a, b)
    for rows in blocks(len(a), size=BLOCK):
        yield rows, pairs.distances(rows)


def own_distance_blocks(values: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """``distance_blocks`` of an array and itself, every pair once: a block's columns begin with its own first row.

    Yields:
        Rows, and distances (rows, n - first row); on their diagonal those of rows to themselves, 0.
    """
    pairs = _Pairs(values, values)
    for rows in blocks(len(values), size=BLOCK):
        yield rows, pairs.distances(rows, rows.start)


class _Pairs:
    """Distances between the rows of two arrays."""

    def __init__(self, a: np.ndarray, b: np.ndarray) -> None:
        if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
            raise ValueError(f"expected two arrays of equal width, found shapes {a.shape} and {b.shape}.")
        if not a.size or not b.size:
            raise ValueError(f"there are no neighbours in an empty array; the shapes are {a.shape} and {b.shape}.")
        self.a, self.b, self.centre = a, b, b.mean(axis=0, dtype=np.float64)
        self.a_norms = self._norms(a)
        self.b_norms = self.a_norms if a is b else self._norms(b)
        largest = max(self.a_norms.max(), self.b_norms.max())
        if not np.isfinite(largest):
            raise ValueError("distances need finite values; NaN or infinities were found.")
        single = np.result_type(a, b, np.float32) == np.float32 and largest < 1e30
        self.precision: type[np.floating] = np.float32 if single else np.float64

    def _centred(self, values: np.ndarray, precision: type[np.floating]) -> np.ndarray:
        return np.subtract(values, self.centre.astype(precision), dtype=precision)

    def _norms(self, values: np.ndarray) -> np.ndarray:
        parts = (self._centred(values[rows], np.float64) for rows in blocks(len(values), size=BLOCK))
        return np.concatenate([np.einsum("ij,ij->i", part, part) for part in parts])

    def distances(self, rows: slice, start: int = 0) -> np.ndarray:
        """From ``rows`` of the first array to all rows of the second from ``start`` on."""
        x = self._centred(self.a[rows], self.precision)
        found = np.empty((len(x), len(self.b) - start))
        for columns in blocks(len(self.b), start, BLOCK):
            found[:, columns.start - start : columns.stop - start] = self._squares(x, rows, columns)
        return np.sqrt(found, out=found)

    def _squares(self, x: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        precision = x.dtype.type
        norms = self.a_norms[rows, None] + self.b_norms[columns]
        found = norms - 2 * (x @ self._centred(self.b[columns], precision).T)
        if precision is np.float64:
            # the error of a dot product of g terms is about sqrt(g) roundings
            found[found <= 8 * np.finfo(np.float64).eps * np.sqrt(x.shape[1]) * norms] = 0.0
            return found
        i, j = np.nonzero(found <= NEAR * norms)
        if len(i) > MANY * found.size:  # a collapsed generator, or few genes
            return self._squares(self._centred(self.a[rows], np.float64), rows, columns)
        found[i, j] = exact_squares(self.a, i + rows.start, self.b, j + columns.start)
        return found


@one_thread_if_small
def neighbour_distances(values: np.ndarray, k: int) -> np.ndarray:
    """Distances from each row to its ``k`` nearest other rows, (n, k), ascending.

    Raises:
        ValueError: if ``k`` is not between 1 and n - 1.
    """
    require_neighbours(values, k)
    nearest = np.full((len(values), k), np.inf)
    for rows, distances in own_distance_blocks(values):
        size = len(distances)
        np.fill_diagonal(distances, np.inf)
        nearest[rows] = smallest(nearest[rows], distances, k)
        nearest[rows.stop :] = smallest(nearest[rows.stop :], distances[:, size:].T, k)
    return np.sort(nearest, axis=1)


def require_neighbours(values: np.ndarray, k: int) -> None:
    """Raise a ValueError unless every row of ``values`` has ``k`` other rows."""
    if not 1 <= k < len(values):
        raise ValueError(
            f"k = {k} neighbours need more than {k} profiles, found {len(values)}; "
            "lower k in the evaluation's parameters or score more profiles."
        )


@one_thread_if_small
def nearest(queries: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances from each row of ``queries`` to its nearest row of ``reference``, and which rows these are."""
    distances, indices = np.empty(len(queries)), np.empty(len(queries), dtype=np.int64)
    for rows, block in distance_blocks(queries, reference):
        indices[rows] = block.argmin(axis=1)
        distances[rows] = np.take_along_axis(block, indices[rows, None], axis=1)[:, 0]
    return distances, indices


def nearest_distances(queries: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Distance from each row of ``queries`` to its nearest row of ``reference``, (n_queries,)."""
    return nearest(queries, reference)[0]
