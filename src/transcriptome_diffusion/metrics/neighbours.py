"""Euclidean nearest neighbours, in blocks or from all pairs at once, with copies at distance exactly 0."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from transcriptome_diffusion.metrics.bounded import BoundedDistances, blocks, error_share, exact_squares, smallest
from transcriptome_diffusion.metrics.threads import one_thread_if_small

#: rows per block; a block of distances takes ``BLOCK * len(b) * 8`` bytes
BLOCK = 512
#: genes whose products are summed in single precision
GENES = 1024
#: squared distances below this share of both squared norms are not left to products in single precision
NEAR = 0.01
#: share of a block's pairs beyond which differences of each cost more than products in double precision
MANY = 0.01
#: profiles of a pool up to which its distances are kept in double precision
DOUBLE = 2048


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
    """Distances between the rows of two arrays; ``centre`` is a point near both, 0 where they are centred already."""

    def __init__(self, a: np.ndarray, b: np.ndarray, centre: np.ndarray | None = None) -> None:
        if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
            raise ValueError(f"expected two arrays of equal width, found shapes {a.shape} and {b.shape}.")
        if not a.size or not b.size:
            raise ValueError(f"there are no neighbours in an empty array; the shapes are {a.shape} and {b.shape}.")
        self.a, self.b = a, b
        self.centre = _centre_of(b) if centre is None else centre
        self.precision: type[np.floating] = np.float64
        if np.result_type(a, b, np.float32) == np.float32:
            self.precision = np.float32
        self._measure_norms()
        if self.precision is np.float32 and not max(self.a_norms.max(), self.b_norms.max()) < 1e30:
            self.precision = np.float64
            self._measure_norms()
        if not np.isfinite(self.a_norms).all() or not np.isfinite(self.b_norms).all():
            raise ValueError("distances need finite values; NaN or infinities were found.")

    def _centred(self, values: np.ndarray, precision: type[np.floating]) -> np.ndarray:
        if not self.centre.any():
            return values.astype(precision, copy=False)
        return np.subtract(values, self.centre.astype(precision), dtype=precision)

    def _measure_norms(self) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            self.a_norms = self._norms(self.a)
            self.b_norms = self.a_norms if self.a is self.b else self._norms(self.b)

    def _norms(self, values: np.ndarray) -> np.ndarray:
        parts = (self._centred(values[rows], self.precision) for rows in blocks(len(values), size=BLOCK))
        return np.concatenate([_over_genes(_lengths, part) for part in parts])

    def distances(self, rows: slice, start: int = 0) -> np.ndarray:
        """From ``rows`` of the first array to all rows of the second from ``start`` on, float64."""
        found = np.empty((rows.stop - rows.start, len(self.b) - start))
        self.squares(rows, start, found)
        return np.sqrt(found, out=found)

    def squares(self, rows: slice, start: int, out: np.ndarray) -> None:
        """The squares of ``distances``, written to ``out``."""
        x = self._centred(self.a[rows], self.precision)
        for columns in blocks(len(self.b), start, BLOCK):
            out[:, columns.start - start : columns.stop - start] = self._squares(x, rows, columns)

    def _squares(self, x: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        precision = x.dtype.type
        norms = self.a_norms[rows, None] + self.b_norms[columns]
        found = _over_genes(_inner, x, self._centred(self.b[columns], precision))
        found = norms - np.multiply(found, 2, out=found)
        if precision is np.float64:
            # the error of a dot product of g terms is about sqrt(g) roundings
            found[found <= 8 * np.finfo(np.float64).eps * np.sqrt(x.shape[1]) * norms] = 0.0
            return found
        i, j = np.nonzero(found <= NEAR * norms)
        if len(i) > MANY * found.size:  # a collapsed generator, or few genes
            x, y = (self._centred(side, np.float64) for side in (self.a[rows], self.b[columns]))
            norms = _lengths(x)[:, None] + _lengths(y)
            found = norms - 2 * (x @ y.T)
            found[found <= 8 * np.finfo(np.float64).eps * np.sqrt(x.shape[1]) * norms] = 0.0
            return found
        if self.a is self.b:  # of a profile and itself there is nothing to compute
            same = i + rows.start == j + columns.start
            found[i[same], j[same]] = 0.0
            i, j = i[~same], j[~same]
        found[i, j] = exact_squares(self.a, i + rows.start, self.b, j + columns.start)
        return found


def _over_genes(product: Callable[..., np.ndarray], *sides: np.ndarray) -> np.ndarray:
    """Sum of ``product`` of ``GENES`` columns of the sides (n, n_genes) at a time, float64.

    Rounding in single precision grows with the number of terms that are summed in it.
    """
    total = np.zeros(())
    for genes in blocks(sides[0].shape[1], size=GENES):
        total = total + product(*(side[:, genes] for side in sides))
    return total


def _inner(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return x @ y.T


def _lengths(x: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", x, x)


def _centre_of(values: np.ndarray) -> np.ndarray:
    """The mean profile, or 0 where it is short beside the profiles, as of standardised genes: saves copies of both."""
    centre = values.mean(axis=0, dtype=np.float64)
    some = values[:: max(len(values) // BLOCK, 1)].astype(np.float64)
    return centre if centre @ centre > NEAR * np.einsum("ij,ij->i", some, some).mean() else np.zeros(1)


class Stack:
    """Arrays (n, n_genes) one below the other, from which rows are taken as from one."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts, self.ends = list(parts), np.cumsum([len(part) for part in parts])
        self.shape = int(self.ends[-1]), self.parts[0].shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), self.shape[1]), np.result_type(*self.parts))
        of = np.searchsorted(self.ends, rows, side="right")
        for i, part in enumerate(self.parts):
            places = np.flatnonzero(of == i)
            if len(places):
                found[places] = part[rows[places] - (self.ends[i] - len(part))]
        return found


class Pool:
    """All pairs of some profiles (n, n_genes), measured once; subsets are then compared without their genes.

    Takes memory for n² values, of single precision where there are more than ``DOUBLE``.

    Attributes:
        values: the profiles around ``centre``.
        squares: squared distances as those of ``distance_blocks``, (n, n).
        errors: the true square of i and j lies within ``errors[i] + errors[j]`` of ``squares[i, j]``, (n,).
    """

    values: Stack
    squares: np.ndarray
    errors: np.ndarray
    centre: np.ndarray

    def __init__(self, *parts: np.ndarray, known: Pool | None = None) -> None:
        """Measure the rows of ``parts``.

        Args:
            known: a pool whose profiles come before these; its pairs are not measured again.

        Raises:
            ValueError: as ``distance_blocks``.
        """
        # whole numbers, so that ties of values on a grid remain ties; 0 for most standardised genes
        self.centre = np.rint(parts[0].mean(axis=0)) if known is None else known.centre
        before = [] if known is None else known.values.parts
        sets = [*before, *self._centred(parts)]
        self.values = Stack(sets)
        ends = [0, *self.values.ends.tolist()]
        measured = {
            (i, j): _Pairs(sets[i], sets[j], np.zeros(1)) for i in range(len(before), len(sets)) for j in range(i + 1)
        }
        single = len(self.values) > DOUBLE and all(pairs.precision is np.float32 for pairs in measured.values())
        self.squares = np.empty((len(self.values),) * 2, dtype=np.float32 if single else np.float64)
        if known is not None:
            self.squares[: len(known.values), : len(known.values)] = known.squares
        for (i, j), pairs in measured.items():
            ours, theirs = slice(ends[i], ends[i + 1]), slice(ends[j], ends[j + 1])
            block, mirrored = self.squares[ours, theirs], self.squares[theirs, ours]
            for rows in blocks(len(block), size=BLOCK):
                start = rows.start if i == j else 0
                pairs.squares(rows, start, block[rows, start:])
                if i == j:  # with several threads a product of a matrix with itself is not symmetric to the last digit
                    own = block[rows, rows]
                    np.copyto(own, own.T, where=np.tri(len(own), k=-1, dtype=bool))
                    start = rows.stop
                mirrored[start:, rows] = block[rows, start:].T
        norms = [measured[i, i].a_norms for i in range(len(before), len(sets))]
        errors = error_share(min(self.values.shape[1], GENES)) * np.concatenate(norms)
        self.errors = errors if known is None else np.concatenate([known.errors, errors])

    @classmethod
    def measured(cls, parts: Sequence[np.ndarray], squares: np.ndarray, errors: np.ndarray, centre: np.ndarray) -> Self:
        """The pool of ``parts`` whose other attributes are known."""
        pool = cls.__new__(cls)
        pool.squares, pool.errors, pool.centre = squares, errors, centre
        pool.values = Stack(pool._centred(parts))
        return pool

    def _centred(self, parts: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [part - self.centre if self.centre.any() else part for part in parts]


@dataclass(frozen=True, eq=False)
class Pair:
    """Two sets of profiles of one pool, by their rows.

    Attributes:
        ours, theirs: rows of the pool, (n_ours,) and (n_theirs,).
    """

    pool: Pool
    ours: np.ndarray
    theirs: np.ndarray

    @classmethod
    def of(cls, ours: np.ndarray, theirs: np.ndarray) -> Self:
        """Two arrays (n, n_genes), measured now.

        Raises:
            ValueError: as ``distance_blocks``.
        """
        if ours.ndim != 2 or theirs.ndim != 2 or ours.shape[1] != theirs.shape[1]:
            raise ValueError(f"expected two arrays of equal width, found shapes {ours.shape} and {theirs.shape}.")
        rows = np.arange(len(ours) + len(theirs))
        return cls(Pool(np.concatenate([ours, theirs])), rows[: len(ours)], rows[len(ours) :])

    def squares(self) -> np.ndarray:
        """Squared distances of both sets, ours first, to each other, (n, n)."""
        rows = np.concatenate([self.ours, self.theirs])
        return self.pool.squares[np.ix_(rows, rows)]

    def bounds(self) -> tuple[BoundedDistances, BoundedDistances]:
        """Bounds of the distances within and between the two sets."""
        return _PoolBounds(self.pool, self.ours), _PoolBounds(self.pool, self.theirs)


class _PoolBounds(BoundedDistances):
    """``BoundedDistances`` of some rows of a pool."""

    def __init__(self, pool: Pool, rows: np.ndarray) -> None:
        self.pool, self.rows = pool, rows
        self.slack = 2 * pool.errors[rows]

    def __len__(self) -> int:
        return len(self.rows)

    def lower(self, rows: slice | np.ndarray, other: BoundedDistances, start: int = 0) -> np.ndarray:
        assert isinstance(other, _PoolBounds)
        i, j = self.rows[rows], other.rows[start:]
        return self.pool.squares[np.ix_(i, j)] - self.pool.errors[i, None] - self.pool.errors[j]

    def exact(self, rows: np.ndarray, other: BoundedDistances, columns: np.ndarray) -> np.ndarray:
        assert isinstance(other, _PoolBounds)
        return exact_squares(self.pool.values, self.rows[rows], self.pool.values, other.rows[columns])


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


def require_neighbours(values: np.ndarray | BoundedDistances, k: int) -> None:
    """Raise a ValueError unless every row of ``values`` has ``k`` other rows."""
    if not 1 <= k < len(values):
        raise ValueError(
            f"k = {k} neighbours need more than {k} profiles, found {len(values)}; "
            "lower k in the evaluation's parameters or score more profiles."
        )


@one_thread_if_small
def distances_to_others(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Distances from some ``rows`` (k,) of an array to the nearest other row of it, (k,)."""
    found = np.empty(len(rows))
    for block, distances in distance_blocks(values[rows], values):
        distances[np.arange(len(distances)), rows[block]] = np.inf
        found[block] = distances.min(axis=1)
    return found


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
