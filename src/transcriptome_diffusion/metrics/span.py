"""Coordinates of profiles in the span of some of them, from their distances alone: no pass over all genes."""

from __future__ import annotations

import functools

import numpy as np
import scipy.linalg

#: of the largest eigenvalue: smaller ones are not told from the rounding of distances
RELATIVE = 1e-6
#: power iterations where not all eigenvectors are looked for; enough for a subspace that holds what varies
ITERATIONS = 2


def products(squares: np.ndarray, within: np.ndarray) -> np.ndarray:
    """Inner products (m, n) around the mean of n profiles, from squared distances (m, n) to and (n, n) within them."""
    apart = within.mean(axis=0, dtype=np.float64)
    centred = squares - apart.astype(squares.dtype)
    centred -= centred.mean(axis=1, dtype=np.float64)[:, None].astype(squares.dtype)
    return np.multiply(centred, -0.5, out=centred)


def axes_in_span(gram: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``most`` leading eigenvalues (rank,), falling, and eigenvectors (n, rank) float64, of products (n, n).

    With v and l, the profiles have the coordinates v √l; others, whose products with them are p, have p v / √l. Where
    there are more than twice ``most`` profiles, randomised: Halko et al. (2011), doi:10.1137/090771806.
    """
    if len(gram) > 2 * most:
        from sklearn.utils.extmath import randomized_range_finder

        basis = randomized_range_finder(gram, size=most + 10, n_iter=ITERATIONS, random_state=0)
        values, vectors = scipy.linalg.eigh(
            (basis.T @ gram @ basis).astype(np.float64), driver="evd", check_finite=False
        )
        vectors = basis @ vectors.astype(basis.dtype)
    else:
        values, vectors = scipy.linalg.eigh(gram.astype(np.float64), driver="evd", check_finite=False)
    kept = np.flatnonzero(values > RELATIVE * values[-1])[::-1][:most] if values[-1] > 0 else np.empty(0, np.int64)
    return values[kept], vectors[:, kept]


@functools.lru_cache(maxsize=2)
def random_basis(size: int) -> np.ndarray:
    """A random rotation (size, size) float64, the same for every call: the factor of a Gaussian matrix."""
    basis, triangle = np.linalg.qr(np.random.default_rng(0).standard_normal((size, size)))
    return basis * np.sign(np.diag(triangle))
