"""Ridge regression through a decomposition of its inputs: penalties and residuals without refitting; plain arrays.

With centred inputs X = U S Vᵀ, ridge of penalty p predicts U diag(s² / (s² + p)) Uᵀ Y for its own training profiles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.linalg


class Spectrum(NamedTuple):
    """Centred X = U S Vᵀ in float64: ``left`` (n, rank), ``singular`` (rank,) falling, ``right`` (n_genes, rank)."""

    left: np.ndarray
    singular: np.ndarray
    right: np.ndarray


def decompose(x: np.ndarray) -> Spectrum:
    """The spectrum of ``x`` (n, n_genes), after centring.

    Where profiles are many, the eigenvectors of XᵀX give the same as a singular value decomposition at a fraction of
    the time, except for directions with S below 1e-7 of the first. They are left out; no regression misses them.
    """
    x = x.astype(np.float64)
    x -= x.mean(axis=0)  # exactly, so that U is orthogonal to the ones
    precision = max(x.shape) * np.finfo(np.float64).eps
    if len(x) <= 2 * x.shape[1]:  # close to interpolation the last directions count
        left, singular, right = scipy.linalg.svd(x, full_matrices=False, check_finite=False)
        kept = singular > singular[0] * precision
        return Spectrum(left[:, kept], singular[kept], right[kept].T)
    values, vectors = scipy.linalg.eigh(x.T @ x, check_finite=False, overwrite_a=True, driver="evd")
    kept = np.flatnonzero(values > values[-1] * precision)[::-1]
    singular, right = np.sqrt(values[kept]), vectors[:, kept]
    return Spectrum(x @ (right / singular), singular, right)


def leave_one_out_error(
    left: np.ndarray, singular: np.ndarray, gram: np.ndarray, against: np.ndarray, norms: np.ndarray
) -> Callable[[float], float]:
    """For a penalty the mean over samples of the squared leave-one-out residuals of ridge, summed over all targets.

    With centred Y the leave-one-out residual of a sample is that of the fit on all, e, over 1 - h, h its leverage
    (Allen 1974, doi:10.1080/00401706.1974.10489157). Here |e|² over all targets comes from products that no longer
    hold the targets, split into the part in the span of U and the part outside of it, so that nothing cancels where
    the fit comes close to interpolation.

    Args:
        left: U (n, rank), orthogonal to the vector of ones. singular: S (rank,).
        gram: (UᵀY)(UᵀY)ᵀ, (rank, rank). against: Y (UᵀY)ᵀ, (n, rank); overwritten. norms: squared row norms of
            Y, (n,). All in the precision to work in.

    Returns:
        A function of the ridge penalty on the sum of squares of the weights.
    """
    within = left @ gram
    outside = np.subtract(against, within, out=against)
    # |Y|² less the part in the span: outside and within are its products with U
    outside_norms = (norms - np.einsum("ij,ij->i", within, left) - 2 * np.einsum("ij,ij->i", outside, left)).clip(min=0)
    outside *= left
    squared_left = np.square(left)
    rest = _outside_the_span(left)

    def error(penalty: float) -> float:
        unexplained = (penalty / (singular**2 + penalty)).astype(left.dtype)
        scaled = left * unexplained
        np.matmul(scaled, gram, out=within)
        squared = np.einsum("ij,ij->i", within, scaled) + 2 * (outside @ unexplained) + outside_norms
        return float(np.mean(squared / np.square(squared_left @ unexplained + rest), dtype=np.float64))

    return error


def leave_one_out_by_target(
    left: np.ndarray, singular: np.ndarray, within: np.ndarray, y: np.ndarray, penalties: Sequence[float] | np.ndarray
) -> np.ndarray:
    """The same for every target by itself, (n_penalties, n_targets); a pass over the targets for each penalty.

    Args:
        within: UᵀY, (rank, n_targets). y: Y (n, n_targets), centred.
    """
    outside, rest = y - left @ within, _outside_the_span(left)
    errors = np.empty((len(penalties), y.shape[1]))
    for i, penalty in enumerate(penalties):
        unexplained = (penalty / (singular**2 + penalty)).astype(left.dtype)
        residuals = left @ (unexplained[:, None] * within) + outside
        residuals /= (np.square(left) @ unexplained + rest)[:, None]
        errors[i] = np.einsum("ij,ij->j", residuals, residuals) / len(left)
    return errors


def _outside_the_span(left: np.ndarray) -> np.ndarray:
    """The part of 1 - h that no penalty changes, (n,): the directions that are neither in U nor the intercept."""
    return (1 - 1 / len(left) - np.square(left).sum(axis=1)).clip(min=0)


def search_minimum(error: Callable[[int], float], count: int, stride: int = 4) -> dict[int, float]:
    """Errors at every ``stride``-th of ``count`` places, and at all places around the smallest of them.

    That finds the smallest of all where no two minima are nearer to each other than a stride.
    """
    found = {i: error(i) for i in sorted({*range(0, count, stride), count - 1})}
    best = min(found, key=lambda i: found[i])
    around = range(max(best - stride + 1, 0), min(best + stride, count))
    return found | {i: error(i) for i in around if i not in found}


def hat_factor(left: np.ndarray, explained: np.ndarray) -> np.ndarray:
    """R (n, rank + 1) with hat matrix H = R Rᵀ, intercept included.

    Args:
        left: U (n, rank). explained: s² / (s² + p), the share of Y that ridge explains along each column of U, (rank,).
    """
    return np.column_stack([left * np.sqrt(explained), np.full(len(left), len(left) ** -0.5)])


def leave_donors_out(residuals: np.ndarray, factor: np.ndarray, donors: np.ndarray) -> np.ndarray:
    """Residuals of profiles from ridge fitted without any profile of their donor, (n, n_targets).

    Those of the fit on all, solved donor by donor against I - H: leave-one-out (Allen 1974,
    doi:10.1080/00401706.1974.10489157) for blocks of rows. Exact except for the standardisation, which stays.

    Args:
        residuals: (n, n_targets) of the fit on all. factor: their rows of ``hat_factor``. donors: (n,).
            Either all training profiles of a donor are there, or none.
    """
    left_out = np.empty_like(residuals)
    _, codes, sizes = np.unique(donors, return_inverse=True, return_counts=True)
    alone = sizes[codes] == 1
    rest = 1 - np.einsum("ij,ij->i", factor[alone], factor[alone])
    left_out[alone] = residuals[alone] / rest[:, None].astype(residuals.dtype)
    for donor in np.flatnonzero(sizes > 1):
        rows = np.flatnonzero(codes == donor)
        left_out[rows] = np.linalg.solve(np.eye(len(rows)) - factor[rows] @ factor[rows].T, residuals[rows])
    return left_out
