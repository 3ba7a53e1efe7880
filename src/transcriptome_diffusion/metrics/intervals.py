"""Bootstrap intervals of a statistic of profiles, with donors drawn whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

#: independent units (donors, or profiles where no donors are given) below which no interval is given
LEAST = 10


class Interval(NamedTuple):
    """A statistic and its bounds; bounds that mean nothing are NaN, and ``note`` says why."""

    value: float
    low: float
    high: float
    note: str = ""


def bootstrap(
    statistic: Callable[[np.ndarray], float],
    n: int,
    clusters: np.ndarray | None = None,
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Bias-corrected and accelerated (BCa) interval, Efron (1987), doi:10.1080/01621459.1987.10478410.

    Profiles of one donor resemble each other, so whole donors are drawn where they are given; the acceleration
    comes from leaving out a donor at a time. For statistics that are smooth in the weights of profiles (means,
    shares, correlations, accuracies, the fields of ``fidelity.Memberships``), not for ones that look for nearest
    neighbours among the drawn rows, where a row drawn twice is its own neighbour.

    Args:
        statistic: of row numbers, (any length,) integers below ``n``, that may repeat.
        n: number of rows. clusters: donor of each row, (n,); without it each row counts as its own.
        draws: resamples; 1,000 give bounds to a tenth of the interval's width. level: share of intervals that
            hold the true value.

    Raises:
        ValueError: if there is not one donor per row.
    """
    if clusters is None:
        clusters = np.arange(n)
    if len(clusters) != n:
        raise ValueError(f"expected the donor of each of {n} rows, found {len(clusters)} donors.")
    _, codes = np.unique(clusters, return_inverse=True)
    rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    value, units = float(statistic(np.arange(n))), len(rows)
    if units < LEAST:
        return Interval(value, np.nan, np.nan, _too_few(units))
    rng = np.random.default_rng(seed)
    drawn = np.array(
        [statistic(np.concatenate([rows[c] for c in rng.integers(units, size=units)])) for _ in range(draws)]
    )
    left_out = np.array([statistic(np.delete(np.arange(n), rows[c])) for c in range(units)])
    influence = np.nanmean(left_out) - np.nan_to_num(left_out, nan=np.nanmean(left_out))
    return _bca(value, drawn, influence, level)


def bootstrap_mean(
    sides: Sequence[tuple[np.ndarray, np.ndarray]], *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """``bootstrap`` of the mean over ``sides`` of each side's mean, whose units are drawn independently; much faster.

    One side is a plain mean, such as a recall over donors; two are ½ (mean + mean), the adversarial accuracy.

    Args:
        sides: values (n,) and the unit (donor) of each, (n,); a unit's values may differ in number.

    Raises:
        ValueError: if there is not one unit per value.
    """
    rng = np.random.default_rng(seed)
    value, drawn, influences, least = 0.0, np.zeros(draws), [], LEAST
    for values, clusters in sides:
        if len(values) != len(clusters):
            raise ValueError(f"expected the donor of each of {len(values)} rows, found {len(clusters)} donors.")
        _, codes = np.unique(clusters, return_inverse=True)
        sums, counts = np.bincount(codes, values), np.bincount(codes)
        units, mean = len(sums), sums.sum() / counts.sum()
        value += mean / len(sides)
        least = min(least, units)
        if units > 1:
            weights = rng.multinomial(units, np.full(units, 1 / units), size=draws)
            drawn += (weights @ sums) / (weights @ counts) / len(sides)
            left_out = (sums.sum() - sums) / (counts.sum() - counts)
            influences.append((left_out.mean() - left_out) / len(sides))
    if least < LEAST:
        return Interval(value, np.nan, np.nan, _too_few(least))
    return _bca(value, drawn, np.concatenate(influences), level)


def _too_few(units: int) -> str:
    return f"{units} independent units, an interval needs {LEAST}"


def _bca(value: float, drawn: np.ndarray, influence: np.ndarray, level: float) -> Interval:
    """From the statistic of resamples, and what each unit adds to it."""
    draws, drawn = len(drawn), drawn[np.isfinite(drawn)]
    if len(drawn) < draws / 2 or np.ptp(drawn) <= 1e-12 * np.abs(drawn).max():
        return Interval(value, np.nan, np.nan, "undefined in most resamples, or the same in all")
    scale = np.square(influence).sum() ** 1.5
    acceleration = np.power(influence, 3).sum() / (6 * scale) if scale else 0.0
    # half of the ties, as a share moves in steps; and no bound beyond the drawn values
    share = ((drawn < value).mean() + (drawn <= value).mean()) / 2
    bias = scipy.stats.norm.ppf(np.clip(share, 0.5 / len(drawn), 1 - 0.5 / len(drawn)))
    tails = bias + scipy.stats.norm.ppf([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(drawn, scipy.stats.norm.cdf(bias + tails / (1 - acceleration * tails)))
    return Interval(value, float(low), float(high))
