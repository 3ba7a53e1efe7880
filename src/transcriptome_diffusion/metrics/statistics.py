"""What several indicators share: areas under ROC curves, intervals over donors, matched draws, simple moments."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from transcriptome_diffusion.metrics.profile_set import ProfileSet

#: units up to which resampling is quicker than remembering what was drawn for more of them
SMALL = 100
#: independent units (donors, or profiles where no donors are given) below which no interval is given
LEAST = 10


# ----------------------------------------------------------------------------------- areas under ROC curves
def auc(scores: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """Area under the ROC curve and its variance, DeLong et al. (1988), doi:10.2307/2531595; ties count half.

    Null .5. The variance is NaN if there is only one positive or one negative.

    Args:
        scores: (n,), higher for positives. positive: (n,), 0 or 1, both present.
    """
    yes = np.asarray(positive).astype(bool)
    ours, theirs = scores[yes], scores[~yes]
    m, n = len(ours), len(theirs)
    beaten, above = count_below(ours, theirs) / n, 1 - count_below(theirs, ours) / m
    variance = beaten.var(ddof=1) / m + above.var(ddof=1) / n if min(m, n) > 1 else np.nan
    return float(beaten.mean()), float(variance)


def count_below(queries: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How many of ``others`` lie below each query, ties counting half, (n_queries,) float64."""
    ordered = np.sort(others)
    return (np.searchsorted(ordered, queries, "left") + np.searchsorted(ordered, queries, "right")) / 2


# ----------------------------------------------------------------------------------------------- intervals
class Interval(NamedTuple):
    """A statistic and its bounds; bounds that mean nothing are NaN, and ``note`` says why."""

    value: float
    low: float
    high: float
    note: str = ""


def bootstrap_mean(
    sides: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    classes: np.ndarray | None = None,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of the mean over ``sides`` of each side's mean, whose units are drawn independently.

    Bias-corrected and accelerated (BCa), Efron (1987), doi:10.1080/01621459.1987.10478410. Profiles of one donor
    resemble each other, so whole donors are drawn; the acceleration comes from leaving out a donor at a time. Not for
    statistics that look for nearest neighbours among the drawn rows, where a row drawn twice is its own neighbour. One
    side is a plain mean, such as a recall over donors; two are ½ (mean + mean), the adversarial accuracy.

    Args:
        sides: values (n,) and the unit (donor) of each, (n,); a unit's values may differ in number.
        classes: of the values, (n,); the mean of a side is then that over classes of the mean of each class that was
            drawn, such as the balanced accuracy.

    Raises:
        ValueError: if there is not one unit per value.
    """
    value, drawn, influences, least = 0.0, np.zeros(draws), [], LEAST
    for side, (values, clusters) in enumerate(sides):
        if len(values) != len(clusters):
            raise ValueError(f"expected the donor of each of {len(values)} rows, found {len(clusters)} donors.")
        codes, of = _codes(clusters), np.zeros(len(values), int) if classes is None else _codes(classes)
        shape = codes.max() + 1, of.max() + 1
        places = codes * shape[1] + of
        sums, counts = (
            np.bincount(places, weights, shape[0] * shape[1]).reshape(shape)
            for weights in (values, np.ones(len(values)))
        )
        units, (whole_sum, whole_count) = shape[0], (sums.sum(axis=0), counts.sum(axis=0))
        value += float(_mean_of_classes(whole_sum, whole_count)) / len(sides)
        least = min(least, units)
        if units > 1:
            resample = resampled if units > SMALL else resampled.__wrapped__
            weights = resample(units, draws, seed, side)
            drawn += _mean_of_classes(weights @ sums, weights @ counts) / len(sides)
            left_out = _mean_of_classes(whole_sum - sums, whole_count - counts)
            influences.append((left_out.mean() - left_out) / len(sides))
    if least < LEAST:
        return Interval(value, np.nan, np.nan, _too_few(least))
    return _bca(value, drawn, np.concatenate(influences), level)


def _codes(names: np.ndarray) -> np.ndarray:
    """The place of each name among the different ones, (n,)."""
    return np.asarray(pd.factorize(names)[0])


def _mean_of_classes(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean over classes, the last axis, of sum / count, of those with a count."""
    there = counts > 0.5
    return np.divide(sums, counts, out=np.zeros_like(sums), where=there).sum(axis=-1) / there.sum(axis=-1)


@functools.lru_cache(maxsize=8)  # both sides of the draws against test and against train, and of attacks
def resampled(units: int, draws: int, seed: int, side: int) -> np.ndarray:
    """How often each unit is drawn when ``units`` are drawn with replacement, (draws, units) float64."""
    drawn = np.random.default_rng([seed, side]).integers(units, size=(draws, units))
    drawn += np.arange(draws)[:, None] * units
    return np.bincount(drawn.ravel(), minlength=draws * units).reshape(draws, units).astype(np.float64)


def share_interval(share: float, units: int, level: float = 0.95) -> Interval:
    """Wilson's interval (1927), doi:10.1080/01621459.1927.10502953, of a share of ``units`` independent profiles.

    Unlike others it says something where the share is 0 or 1.
    """
    z = ndtri((1 + level) / 2) ** 2 / units
    centre, half = (share + z / 2) / (1 + z), np.sqrt(share * (1 - share) * z + z**2 / 4) / (1 + z)
    return Interval(share, float(centre - half), float(centre + half))


def jackknife(
    statistics: Callable[..., Mapping[str, float]],
    sides: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    groups: int = 10,
    seed: int = 0,
) -> dict[str, float]:
    """Standard errors of several statistics over other donors: the delete-a-group jackknife.

    Shao & Wu (1989), doi:10.1214/aos/1176347263, for statistics that are smooth in the weights of profiles. The donors
    of every side are divided at random into groups, class by class, and the g-th group of all sides is left out at a
    time: the error is that of other donors in the same numbers of every class.

    Args:
        statistics: of the rows that are kept of each side, an array of row numbers per side.
        sides: donor and class of each row, (n,) both, per side.
        groups: as far as there are donors. The error of a standard error of g groups is about 1 / √(2 g).

    Returns:
        By name, NaN for statistics that are undefined without some group; none with fewer than ``LEAST`` donors a side.
    """
    rng = np.random.default_rng(seed)
    units = [np.unique(donors, return_index=True, return_inverse=True)[1:] for donors, _ in sides]
    groups = min([groups, *(len(first) for first, _ in units)])
    if groups < LEAST:
        return {}
    group_of = []
    for (first, codes), (_, classes) in zip(units, sides, strict=True):
        by_class = np.lexsort((rng.permutation(len(first)), classes[first]))
        group_of.append((by_class.argsort() % groups)[codes])
    found = [dict(statistics(*(np.flatnonzero(group != left_out) for group in group_of))) for left_out in range(groups)]
    errors = {}
    for name in found[0]:
        values = np.array([part.get(name, np.nan) for part in found])
        errors[name] = float(np.sqrt((groups - 1) * values.var()))
    return errors


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
    bias = ndtri(np.clip(share, 0.5 / len(drawn), 1 - 0.5 / len(drawn)))
    tails = bias + ndtri([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(drawn, ndtr(bias + tails / (1 - acceleration * tails)))
    return Interval(value, float(low), float(high))


# ------------------------------------------------------------------------------------------- matched draws
def matched(
    first: ProfileSet, second: ProfileSet, size_of: ProfileSet, draws: int, seed: int, most: int | None = None
) -> Iterator[tuple[ProfileSet, ProfileSet]]:
    """Random subsets of two sets with equal size and equal label composition, by ``matched_draws``."""
    for ours, theirs in matched_draws(first.labels, second.labels, size_of.labels, draws, seed, most):
        yield first.take(ours), second.take(theirs)


def matched_draws(
    first: np.ndarray, second: np.ndarray, size_of: np.ndarray, draws: int, seed: int, most: int | None = None
) -> Iterator[list[np.ndarray]]:
    """Rows of random subsets of two sets, given by their labels (n,), with equal size and equal label composition.

    Nearest-neighbour indicators depend on the sample size and on the mixture of tissues, so both sides get,
    label by label, as many profiles as ``size_of`` has, or as many as the scarcer side can give. Where ``size_of``
    has more than ``most`` profiles, every label gives its share of ``most``.

    Raises:
        ValueError: if one side lacks a label of ``size_of`` altogether.
    """
    labels, counts = np.unique(size_of, return_counts=True)
    for side in (first, second):
        if missing := sorted(set(labels.tolist()) - set(side.tolist())):
            raise ValueError(f"no profiles with the label {missing}; every tissue has to be generated.")
    if most is not None and counts.sum() > most:
        counts = np.maximum(counts * most // counts.sum(), 1)
    wanted = dict(zip(labels, counts, strict=True))
    for draw in range(draws):
        yield matched_rows((first, second), wanted, np.random.default_rng([seed, draw]))


def matched_rows(sides: Sequence[np.ndarray], wanted: Mapping[Any, int], rng: np.random.Generator) -> list[np.ndarray]:
    """Of each side, given by its labels (n,), random rows: ``wanted`` of every label, or what the scarcest side has."""
    chosen: list[list[np.ndarray]] = [[np.empty(0, dtype=np.int64)] for _ in sides]
    for label, count in wanted.items():
        rows = [np.flatnonzero(labels == label) for labels in sides]
        size = min(count, *map(len, rows))
        for taken, available in zip(chosen, rows, strict=True):
            taken.append(rng.choice(available, size, replace=False))
    return [np.concatenate(taken) for taken in chosen]


def thinned_rows(labels: np.ndarray, most: int) -> np.ndarray:
    """Rows of at most ``most`` or so profiles, given by their labels (n,): of every class its share, at random.

    All rows where there are no more; the same rows in every call.
    """
    if len(labels) <= most:
        return np.arange(len(labels))
    names, counts = np.unique(labels, return_counts=True)
    wanted = dict(zip(names, np.maximum(counts * most // len(labels), 1), strict=True))
    return np.sort(matched_rows([labels], wanted, np.random.default_rng(0))[0])


# --------------------------------------------------------------------------------- moments and distributions
def class_means(values: np.ndarray, labels: np.ndarray, classes: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Mean profile of each of ``classes``, (n_classes, n_genes) float64."""
    return np.stack([values[labels == label].mean(axis=0, dtype=np.float64) for label in classes])


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation of two vectors; 0 if one of them is constant."""
    x, y = x - x.mean(), y - y.mean()
    length = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / length) if length > 1e-12 else 0.0


def wasserstein(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Wasserstein-1 distance between the columns of x (n, k) and y (m, k), (k,) float64."""
    return wasserstein_of_ordered(np.sort(x.T, axis=1), np.sort(y.T, axis=1))


def wasserstein_of_ordered(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """``wasserstein`` of the rows of x (k, n) and y (k, m), each ascending.

    The area between the two distribution functions. Both quantile functions are steps whose ends depend on n and m
    alone, so that one set of steps serves all rows, unlike ``scipy.stats.wasserstein_distance``.
    """
    n, m = x.shape[1], y.shape[1]
    if n == m:
        difference = x - y
        return np.abs(difference, out=difference).mean(axis=1).astype(np.float64)
    ends = np.unique(np.concatenate([np.arange(n + 1) * m, np.arange(m + 1) * n]))  # in units of 1 / (n m): exact
    starts, widths = ends[:-1], np.diff(ends) / (n * m)
    gap = np.subtract(x[:, starts // m], y[:, starts // n], dtype=np.float64)
    return np.abs(gap, out=gap) @ widths
