"""Ridge regression's hat matrix, and what it says of profiles that were left out; functions of arrays."""

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
    the time, but for directions with S below 1e-7 of the first, which are left out: no regression misses them.
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

    With X = U S Vᵀ and Y centred, the residual of a sample is that of the fit on all, e, over 1 - h
    (Allen 1974, doi:10.1080/00401706.1974.10489157). Here |e|² over all targets comes from products that
    no longer hold the targets, split into the part in the span of U and the part outside of it, so that
    nothing cancels where the fit comes close to interpolation.

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
    outside_leverage = (1 - 1 / len(left) - squared_left.sum(axis=1)).clip(min=0)

    def error(penalty: float) -> float:
        kept = (penalty / (singular**2 + penalty)).astype(left.dtype)  # the share of Y that ridge leaves over
        scaled = left * kept
        np.matmul(scaled, gram, out=within)
        squared = np.einsum("ij,ij->i", within, scaled) + 2 * (outside @ kept) + outside_norms
        return float(np.mean(squared / np.square(squared_left @ kept + outside_leverage), dtype=np.float64))

    return error


def leave_one_out_by_target(
    left: np.ndarray, singular: np.ndarray, within: np.ndarray, y: np.ndarray, penalties: Sequence[float] | np.ndarray
) -> np.ndarray:
    """The same for every target by itself, (n_penalties, n_targets); a pass over the targets for each penalty.

    Args:
        within: UᵀY, (rank, n_targets). y: Y (n, n_targets), centred.
    """
    outside = y - left @ within
    leverage = 1 - 1 / len(left) - np.square(left).sum(axis=1)
    errors = np.empty((len(penalties), y.shape[1]))
    for i, penalty in enumerate(penalties):
        kept = (penalty / (singular**2 + penalty)).astype(left.dtype)
        left_over = np.square(left) @ kept + leverage.clip(min=0)
        residuals = (left @ (kept[:, None] * within) + outside) / left_over[:, None]
        errors[i] = np.einsum("ij,ij->j", residuals, residuals) / len(left)
    return errors


def search_least(error: Callable[[int], float], count: int, stride: int = 4) -> dict[int, float]:
    """Errors at every ``stride``-th of ``count`` places, and at all those around the least of them.

    That finds the least of all where no two dips are nearer to each other than a stride.
    """
    found = {i: error(i) for i in sorted({*range(0, count, stride), count - 1})}
    best = min(found, key=lambda i: found[i])
    around = range(max(best - stride + 1, 0), min(best + stride, count))
    return found | {i: error(i) for i in around if i not in found}


def hat_root(left: np.ndarray, explained: np.ndarray) -> np.ndarray:
    """R (n, rank + 1) with hat matrix H = R Rᵀ, intercept included.

    Args:
        left: U (n, rank). explained: the share of Y that ridge explains along each vector of U, (rank,).
    """
    return np.column_stack([left * np.sqrt(explained), np.full(len(left), len(left) ** -0.5)])


def leave_donors_out(residuals: np.ndarray, root: np.ndarray, donors: np.ndarray) -> np.ndarray:
    """Residuals of profiles from ridge fitted without any profile of their donor, (n, n_targets).

    Those of the fit on all, solved donor by donor against I - H: leave-one-out (Allen 1974,
    doi:10.1080/00401706.1974.10489157) for blocks of rows. Exact but for the standardisation, which stays.

    Args:
        residuals: (n, n_targets) of the fit on all. root: their rows of ``hat_root``. donors: (n,).
            A donor's training profiles have to be there all or not at all.
    """
    kept = np.empty_like(residuals)
    _, codes, sizes = np.unique(donors, return_inverse=True, return_counts=True)
    alone = sizes[codes] == 1
    left_over = 1 - np.einsum("ij,ij->i", root[alone], root[alone])
    kept[alone] = residuals[alone] / left_over[:, None].astype(residuals.dtype)
    for donor in np.flatnonzero(sizes > 1):
        rows = np.flatnonzero(codes == donor)
        kept[rows] = np.linalg.solve(np.eye(len(rows)) - root[rows] @ root[rows].T, residuals[rows])
    return kept
