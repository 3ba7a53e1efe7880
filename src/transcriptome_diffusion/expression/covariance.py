"""Covariances of more genes than profiles, from products of profiles: no genes x genes matrix is ever formed."""

from __future__ import annotations

import numpy as np

#: principal axes that are looked for where profiles and genes are both more than twice as many
MOST_AXES = 512


def ledoit_wolf(residuals: np.ndarray) -> tuple[float, float]:
    """Shrinkage s and mean variance m of the covariance (1 - s) S + s m I, S = RᵀR / n.

    Ledoit & Wolf (2004), doi:10.1016/S0047-259X(03)00096-4, for centred rows R (n, n_genes); the numbers of
    ``sklearn.covariance.ledoit_wolf``, from products of samples instead of genes: |RᵀR|² = |RRᵀ|², and the
    squared products of all pairs of genes sum to the fourth powers of the rows' lengths.

    With w ~ N(0, I_n) and e ~ N(0, I_genes), ``sqrt((1 - s) / n) Rᵀ w + sqrt(s m) e`` has exactly this covariance.
    """
    n, genes = residuals.shape
    gram = residuals @ residuals.T
    norms = np.diag(gram)
    mean_variance = norms.sum() / (n * genes)
    squares = np.square(gram).sum() / n**2
    distance = squares / genes - mean_variance**2
    error = (np.square(norms).sum() / n - squares) / (genes * n)
    # one profile, or equal variances without correlation: nothing but the target is known
    shrinkage = min(error, distance) / distance if distance > 1e-12 * mean_variance**2 else 1.0
    return float(max(shrinkage, 0.0)), float(mean_variance)


def leading_axes(centred: np.ndarray, count: int, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """Leading squared singular values (count,), falling, and axes (n_genes, count) of centred rows (n, n_genes).

    Fewer than ``count`` where rows vary along fewer axes. Randomised: Halko et al. (2011), doi:10.1137/090771806, with
    ten axes more than are kept, in float32, whose rounding is far below what a few power ``iterations`` leave open.
    scikit-learn's ``randomized_svd`` gives the same, but not by products alone.
    """
    from sklearn.utils.extmath import randomized_range_finder

    centred = centred.astype(np.float32, copy=False)
    rows = randomized_range_finder(centred, size=count + 10, n_iter=iterations, random_state=0).T @ centred
    squares, vectors = np.linalg.eigh((rows @ rows.T).astype(np.float64))
    leading = [i for i in np.argsort(-squares)[:count] if squares[i] > 1e-9 * squares[-1]]
    return squares[leading], rows.T @ (vectors[:, leading] / np.sqrt(squares[leading])).astype(np.float32)


def principal_axes(residual: np.ndarray, most: int = MOST_AXES) -> tuple[np.ndarray, np.ndarray]:
    """Variances (rank,), falling, and orthonormal axes (n_genes, rank) of centred residuals (n, n_genes).

    Where profiles and genes are both more than twice ``most``, only the first ``most`` axes, by a randomised
    decomposition: a full one takes hours there, and the last axes are hardly better than white noise.
    """
    n, genes = residual.shape
    if min(n, genes) > 2 * most:
        squares, directions = leading_axes(residual, most, iterations=2)
        return squares / n, directions.astype(np.float64)
    # the eigenvectors of the smaller of the two products give those of the larger
    if n >= genes:
        values, directions = np.linalg.eigh(residual.T @ residual)
    else:
        values, left = np.linalg.eigh(residual @ residual.T)
        directions = residual.T @ (left / np.sqrt(values.clip(min=np.finfo(float).tiny)))
    kept = np.flatnonzero(values > 1e-9 * values.max(initial=np.finfo(float).tiny))[::-1]
    return values[kept] / n, directions[:, kept]


def within_class_residuals(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Profiles (n, n_genes) less the mean of their class, float64."""
    names, codes = np.unique(labels, return_inverse=True)
    member = (codes == np.arange(len(names))[:, None]) / np.bincount(codes)[:, None]
    residuals = values.astype(np.float64)
    residuals -= (member @ residuals)[codes]
    return residuals
