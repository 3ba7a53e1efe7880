"""Euclidean nearest neighbours in blocks: no array of all pairs, and copies at distance exactly 0."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

#: rows per block; a block of distances takes ``BLOCK * len(b) * 8`` bytes
BLOCK = 512


def distance_blocks(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the rows of ``a`` in blocks, each with its distances to all rows of ``b``, (rows, len(b)) float64.

    Uses |x - y|² = |x|² + |y|² - 2xy in float64, on data centred at the mean of ``b`` since the rounding
    error grows with |x|². What lies below that error is set to 0, so that copies tie with copies.

    Raises:
        ValueError: if the widths differ, an array is empty, or values are not finite.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"expected two arrays of equal width, found shapes {a.shape} and {b.shape}.")
    if not a.size or not b.size:
        raise ValueError(f"there are no neighbours in an empty array; the shapes are {a.shape} and {b.shape}.")
    centre = b.mean(axis=0, dtype=np.float64)
    if not (np.isfinite(centre).all() and np.isfinite(a).all()):
        raise ValueError("distances need finite values; NaN or infinities were found.")
    # the error of a dot product of g terms is about sqrt(g) roundings
    tolerance = 8 * np.finfo(np.float64).eps * np.sqrt(a.shape[1])
    for start in range(0, len(a), BLOCK):
        rows = slice(start, min(start + BLOCK, len(a)))
        x = a[rows] - centre
        x_norm = np.einsum("ij,ij->i", x, x)[:, None]
        squared = np.empty((len(x), len(b)))
        for first in range(0, len(b), BLOCK):
            y = b[first : first + BLOCK] - centre
            norms = x_norm + np.einsum("ij,ij->i", y, y)
            part = norms - 2 * (x @ y.T)
            part[part <= tolerance * norms] = 0.0
            squared[:, first : first + BLOCK] = part
        yield rows, np.sqrt(squared, out=squared)


def neighbour_distances(values: np.ndarray, k: int) -> np.ndarray:
    """Distances from each row to its ``k`` nearest other rows, (n, k), ascending.

    Raises:
        ValueError: if ``k`` is not between 1 and n - 1.
    """
    require_neighbours(values, k)
    nearest = np.empty((len(values), k))
    for rows, distances in distance_blocks(values, values):
        distances[np.arange(len(distances)), np.arange(rows.start, rows.stop)] = np.inf
        nearest[rows] = np.sort(np.partition(distances, k - 1, axis=1)[:, :k], axis=1)
    return nearest


def require_neighbours(values: np.ndarray, k: int) -> None:
    """Raise a ValueError unless every row of ``values`` has ``k`` other rows."""
    if not 1 <= k < len(values):
        raise ValueError(
            f"k = {k} neighbours need more than {k} profiles, found {len(values)}; "
            "lower k in the evaluation's parameters or score more profiles."
        )


def nearest_distances(queries: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Distance from each row of ``queries`` to its nearest row of ``reference``, (n_queries,)."""
    return np.concatenate([block.min(axis=1) for _, block in distance_blocks(queries, reference)])
