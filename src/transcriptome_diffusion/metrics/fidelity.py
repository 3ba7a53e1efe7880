"""How well two sets of profiles cover each other: k-nearest-neighbour indicators and adversarial accuracy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from transcriptome_diffusion.metrics.bounded import BoundedDistances, blocks
from transcriptome_diffusion.metrics.neighbours import Pair, require_neighbours
from transcriptome_diffusion.metrics.threads import one_thread_if_small

#: profiles of a class on either side below which its precision and recall say nothing
LEAST = 30


def least_profiles(k: int, least: int = LEAST) -> int:
    """Fewest profiles a side for which indicators of ``k`` neighbours are given."""
    return max(least, k + 1)


class Memberships(NamedTuple):
    """What each profile contributes to the indicators of ``fidelity``; the field's mean is the indicator."""

    balls_around: np.ndarray  # (n_synthetic,) int: real balls that contain it; above 0: precision; over k: density
    recalled: np.ndarray  # (n_real,) bool: within a synthetic ball
    covered: np.ndarray  # (n_real,) bool: its ball contains a synthetic profile
    real_apart: np.ndarray  # (n_real,) bool: nearer to a real than to a synthetic profile
    synthetic_apart: np.ndarray  # (n_synthetic,) bool: the reverse


def fidelity(real: np.ndarray, synthetic: np.ndarray, k: int) -> dict[str, float]:
    """Eight indicators from the distances within and between two sets of profiles, each computed once.

    Both arrays are (n, n_genes) in one gene-wise standardised space. All indicators depend on n and on
    n_real / n_synthetic, so sizes should be equal; the null values hold for two equally large samples of
    one distribution. A ball is that around a profile which reaches to its k-th nearest neighbour in its
    own set, itself excluded (open, as in the ``prdc`` package).

    - ``precision``: share of synthetic profiles within a ball of a real one; best 1, null near 1
      (Kynkäänniemi et al. 2019, arXiv:1904.06991).
    - ``recall``: share of real profiles within a ball of a synthetic one; best 1, null near 1 (as above).
    - ``f1``: the harmonic mean of the two, 0 if both are 0.
    - ``density``: number of real balls around a synthetic profile over k; null 1, above 1 where synthetic
      profiles are concentrated where real ones are dense (Naeem et al. 2020, arXiv:2002.09797).
    - ``coverage``: share of real balls that contain a synthetic profile; best 1, null
      1 - (n-1)···(n-k) / ((2n-1)···(2n-k)), about 1 - 2^-k (as above).
    - ``adversarial_accuracy``: ½ [share of real profiles nearer to a real than to a synthetic one + the
      reverse]; null ``expected.expected_adversarial_accuracy``, a little below 0.5; towards 0 copies, towards 1
      separated (Yale et al. 2020, doi:10.1016/j.neucom.2019.12.136). ``adversarial_accuracy_real`` and
      ``adversarial_accuracy_synthetic`` are the two shares, whose errors may cancel in the mean.

    Raises:
        ValueError: if k is not below both n, the widths differ, or values are not finite.
    """
    return summarise(memberships(real, synthetic, k), k)


def summarise(found: Memberships, k: int) -> dict[str, float]:
    """The indicators of ``fidelity`` from who lies in whose ball."""
    precision, recall = float((found.balls_around > 0).mean()), float(found.recalled.mean())
    apart = float(found.real_apart.mean()), float(found.synthetic_apart.mean())
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        "density": float(found.balls_around.mean() / k),
        "coverage": float(found.covered.mean()),
        "adversarial_accuracy": sum(apart) / 2,
        "adversarial_accuracy_real": apart[0],
        "adversarial_accuracy_synthetic": apart[1],
    }


@one_thread_if_small
def memberships(real: np.ndarray, synthetic: np.ndarray, k: int) -> Memberships:
    """Who lies in whose ball, and who has its nearest neighbour on which side; see ``fidelity``.

    Distances are products in float32, within a set once per pair; what lies within their error of a ball's
    radius or of another distance is computed again from float64 differences. Memory is some strips of
    ``BLOCK`` x n distances.
    """
    if real.ndim != 2 or synthetic.ndim != 2 or real.shape[1] != synthetic.shape[1]:
        raise ValueError(f"expected two arrays of equal width, found shapes {real.shape} and {synthetic.shape}.")
    require_neighbours(real, k)
    require_neighbours(synthetic, k)
    centre = real.mean(axis=0, dtype=np.float64)
    return memberships_of(BoundedDistances(real, centre), BoundedDistances(synthetic, centre), k)


@one_thread_if_small
def memberships_of(ours: BoundedDistances, theirs: BoundedDistances, k: int) -> Memberships:
    """``memberships`` of two sets of profiles with bounds of their distances, such as ``Pair.bounds``."""
    require_neighbours(ours, k)
    require_neighbours(theirs, k)
    within_ours, within_theirs = ours.smallest_bounds(k), theirs.smallest_bounds(k)
    # squared radii lie between these
    low_ours, low_theirs = within_ours[:, -1], within_theirs[:, -1]
    high_ours = low_ours + ours.slack + ours.slack.max()
    high_theirs = low_theirs + theirs.slack + theirs.slack.max()

    balls_around = np.zeros(len(theirs), dtype=np.int64)
    recalled, covered = np.zeros((2, len(ours)), dtype=bool)
    to_theirs, to_ours = np.empty(len(ours), np.float32), np.full(len(theirs), np.inf, np.float32)
    open_ours, open_theirs = [], []
    for rows in blocks(len(ours)):
        bounds = ours.lower(rows, theirs)
        to_theirs[rows] = bounds.min(axis=1)
        np.minimum(to_ours, bounds.min(axis=0), out=to_ours)

        i, j = np.nonzero(bounds < high_ours[rows, None])
        upper = bounds[i, j] + (ours.slack[rows][i] + theirs.slack[j])
        i += rows.start
        sure = upper < low_ours[i]
        balls_around += np.bincount(j[sure], minlength=len(theirs))
        covered[i[sure]] = True
        open_ours.append(np.stack([i[~sure], j[~sure]]))

        i, j = np.nonzero(bounds < high_theirs)
        upper = bounds[i, j] + (ours.slack[rows][i] + theirs.slack[j])
        i += rows.start
        sure = upper < low_theirs[j]
        recalled[i[sure]] = True
        left = ~sure & ~recalled[i]
        open_theirs.append(np.stack([i[left], j[left]]))

    i, j = np.concatenate(open_ours, axis=1)
    owners, owner = np.unique(i, return_inverse=True)
    inside = ours.exact(i, theirs, j) < ours.exact_kth(owners, ours, k)[owner]
    balls_around += np.bincount(j[inside], minlength=len(theirs))
    covered[i[inside]] = True

    i, j = np.concatenate(open_theirs, axis=1)
    owners, owner = np.unique(j, return_inverse=True)
    inside = ours.exact(i, theirs, j) < theirs.exact_kth(owners, theirs, k)[owner]
    recalled[i[inside]] = True

    return Memberships(
        balls_around,
        recalled,
        covered,
        _apart(ours, theirs, within_ours[:, 0], to_theirs),
        _apart(theirs, ours, within_theirs[:, 0], to_ours),
    )


def _apart(own: BoundedDistances, other: BoundedDistances, within: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Whether each profile is nearer to its own set, from lower bounds of both nearest squared distances."""
    apart = across > within + (own.slack + own.slack.max())
    unsure = np.flatnonzero(~apart & (across + (own.slack + other.slack.max()) > within))
    apart[unsure] = own.exact_kth(unsure, other, 1) > own.exact_kth(unsure, own, 1)
    return apart


@one_thread_if_small
def support(real: np.ndarray, synthetic: np.ndarray, k: int = 5) -> dict[str, float]:
    """Alpha-precision and beta-recall, both integrated, of Alaa et al. (2022), arXiv:2102.08921.

    Arrays as for ``fidelity``; the space itself serves as the paper's embedding. The alpha-support of a set is the ball
    around its mean that holds a share alpha of it.

    - ``alpha_precision``: 1 - 2 ∫ |P(a) - a| da, where P(a) is the share of synthetic profiles in the a-support
      of the real ones; best 1, null about 1 - .89 / √n by chance alone. 0 if all lie at the centre, or all outside.
      A real profile's distance is taken from the mean of the others, since its own share in the mean brings it
      nearer than a new profile is, noticeably so where genes outnumber profiles.
    - ``beta_recall``: 1 - 2 ∫ |R(b) - b| db, where R(b) is the share of real profiles whose k-nearest-neighbour
      ball holds a synthetic profile of the b-support. Best and null 1 - 2^-k where neighbours lie equally far
      from the centre; in many dimensions they lie nearer to it, and the null is lower: compare with ``real``.

    Raises:
        ValueError: if k is not below the number of real profiles, the widths differ, or values are not finite.
    """
    return support_of(Pair.of(real, synthetic), k)


def support_of(pair: Pair, k: int = 5) -> dict[str, float]:
    """``support`` of two sides whose distances are measured already."""
    require_neighbours(pair.ours, k)
    squares, n = pair.squares(), len(pair.ours)
    ours, across = squares[:n, :n], squares[:n, n:]
    mean_square = ours.mean(dtype=np.float64) / 2  # of the real profiles' distances from their mean
    outwards = np.sort(_from_centre(ours.mean(axis=1, dtype=np.float64) - mean_square) * n / (n - 1))
    inner_share = np.searchsorted(outwards, _from_centre(across.mean(axis=0, dtype=np.float64) - mean_square)) / n

    from_centre = squares[n:, n:].mean(axis=1, dtype=np.float64)  # up to a constant, and in the order of the squares
    rank = np.empty(len(from_centre))
    rank[np.argsort(from_centre, kind="stable")] = np.arange(1, len(rank) + 1) / len(rank)
    np.fill_diagonal(ours, np.inf)
    within = np.partition(ours, k - 1, axis=1)[:, k - 1 : k]
    reached = np.where(across <= within, rank, np.inf).min(axis=1)  # the smallest b that reaches into the ball
    return {"alpha_precision": _integrated(inner_share), "beta_recall": _integrated(reached)}


def _from_centre(squares: np.ndarray) -> np.ndarray:
    return np.sqrt(squares.clip(min=0))


def _integrated(shares: np.ndarray) -> float:
    """1 - 2 ∫ |P(shares <= a) - a| da over [0, 1]."""
    levels = (np.arange(1000) + 0.5) / 1000
    below = np.searchsorted(np.sort(shares), levels, side="right") / len(shares)
    return float(1 - 2 * np.abs(below - levels).mean())


def fidelity_by_class(
    real: np.ndarray,
    real_labels: np.ndarray,
    synthetic: np.ndarray,
    synthetic_labels: np.ndarray,
    k: int,
    least: int = LEAST,
) -> pd.DataFrame:
    """Precision and recall within each class of the real profiles, balls and neighbours of that class alone.

    Both sides of a class are cut to its scarcer side (the first rows; shuffle beforehand), since the indicators
    depend on the sizes.

    Returns:
        One row per class: ``label``, ``n`` on each side, ``precision``, ``recall``, ``note``. With fewer than
        ``least`` profiles or no more than ``k`` the two are NaN and ``note`` says why: a handful of balls in
        hundreds of dimensions contains nothing or everything, whatever the generator.
    """
    rows: list[tuple[str, int, float, float, str]] = []
    for label in np.unique(real_labels):
        ours, theirs = real[real_labels == label], synthetic[synthetic_labels == label]
        n = min(len(ours), len(theirs))
        if n < (needed := least_profiles(k, least)):
            rows.append((str(label), n, np.nan, np.nan, f"{n} profiles, fewer than {needed}"))
            continue
        found = fidelity(ours[:n], theirs[:n], k)
        rows.append((str(label), n, found["precision"], found["recall"], ""))
    return pd.DataFrame(rows, columns=["label", "n", "precision", "recall", "note"])
