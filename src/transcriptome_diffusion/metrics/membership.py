"""Membership inference: whether an attacker can distinguish training profiles from those of other donors.

The attacker has candidate profiles and holds either synthetic profiles and some real ones of other donors (the
reference), or the model itself. An attack gives every candidate a score, higher where it looks more like a member;
candidates are compared within their class only, so that classes that are hard to generate do not count as evidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from transcriptome_diffusion.expression.covariance import ledoit_wolf, principal_axes, within_class_residuals
from transcriptome_diffusion.metrics.neighbours import nearest_distances
from transcriptome_diffusion.metrics.profile_set import ProfileSet
from transcriptome_diffusion.metrics.statistics import class_means, count_below, resampled
from transcriptome_diffusion.metrics.threads import one_thread_if_small

#: false-positive rates at which true-positive rates are given
FALSE_POSITIVES = (0.1, 0.01)
#: bootstrap replicates of a true-positive rate
REPLICATES = 500
#: donors that either side of an attack needs
MIN_DONORS = 10
#: profiles that a covariance is estimated from at most, and queries in work at once
LIMIT, BLOCK = 1024, 512
#: quantile of the standard normal for intervals of 95 %
NORMAL = 1.959964


class Estimate(NamedTuple):
    """A number with its 95 % interval and its value where nothing leaks; NaN with a ``note`` where undefined."""

    value: float
    low: float
    high: float
    null: float
    n: int
    note: str = ""


def as_table(estimates: dict[str, Estimate]) -> pd.DataFrame:
    """One row per estimate: ``metric``, ``value``, ``low``, ``high``, ``null``, ``n``, ``note``."""
    return pd.DataFrame([{"metric": name, **found._asdict()} for name, found in estimates.items()])


def undefined(null: float, n: int, note: str) -> Estimate:
    """The estimate that cannot be given, and ``note``, why."""
    return Estimate(math.nan, math.nan, math.nan, null, n, note)


@one_thread_if_small
def membership_inference(
    synthetic: np.ndarray,
    synthetic_labels: np.ndarray,
    members: ProfileSet,
    non_members: ProfileSet,
    reference: ProfileSet,
    seed: int,
) -> pd.DataFrame:
    """Four attacks on synthetic profiles, each by its AUC and its true-positive rates.

    - ``gan_leaks``: nearness to the closest synthetic profile (Chen et al. 2020, arXiv:1909.03935, full black-box).
    - ``gan_leaks_calibrated``: the same less the nearness to the closest reference profile (ibid.).
    - ``domias``: the density of synthetic profiles over that of reference profiles (van Breugel et al. 2023,
      arXiv:2302.12580), by ``kernel_ratio``. ``domias_gaussian``: the same by ``gaussian_ratio``.

    Null and best .5 for an AUC, the false-positive rate itself for a true-positive rate; 1 means that every member
    is recognised. ``attack`` says how the numbers are made. None of these attacks is the strongest there is: a
    null result says that *they* fail.

    Args:
        synthetic, synthetic_labels: (n, n_genes) in the space of the records, and a class per row.
        members: profiles the generator was trained on. non_members: of held-out donors.
        reference: of donors that are neither; what a class lacks here is taken from the synthetic profiles.
        seed: of the bootstrap.

    Returns:
        A table as ``as_table`` makes it, with the metrics ``{attack}_auc``, ``{attack}_tpr_10``, ``{attack}_tpr_1``.
    """
    candidates = [(part.values, part.labels) for part in (members, non_members)]
    nearness = [-nearest_distances(values, synthetic) for values, _ in candidates]
    usual = [-nearest_distances(values, reference.values) for values, _ in candidates]
    kernels = kernel_ratio(synthetic, synthetic_labels, reference)
    gaussians = gaussian_ratio(synthetic, synthetic_labels, reference)
    scores = {
        "gan_leaks": nearness,
        "gan_leaks_calibrated": [near - far for near, far in zip(nearness, usual, strict=True)],
        "domias": [kernels(*part) for part in candidates],
        "domias_gaussian": [gaussians(*part) for part in candidates],
    }
    estimates: dict[str, Estimate] = {}
    for name, (ours, theirs) in scores.items():
        estimates |= attack(name, ours, members, theirs, non_members, seed)
    return as_table(estimates)


def loss_attack(
    loss: Callable[[Any], np.ndarray],
    members: ProfileSet,
    non_members: ProfileSet,
    times: Sequence[float],
    seed: int,
    name: str = "loss_attack",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The white-box attack: a model that has seen a profile has a lower loss on it.

    Carlini et al. (2023), arXiv:2301.13188; Matsumoto et al. (2023), arXiv:2302.03262, who show that it depends on
    the time step; so the losses of many are combined. At each they are centred and scaled by the median and the
    interquartile range of all candidates of the class, and the mean over times is the score.

    Args:
        loss: profiles to their losses (n,) or (n, n_times), with noise that is the same for every profile.
        members, non_members: as in ``membership_inference``, with profiles such as ``loss`` takes.
        times: where the losses were taken, a number per column.
        seed: of the bootstrap.
        name: of the attack, where several losses of a model are attacked.

    Returns:
        A table as ``as_table`` makes it, with the metrics ``{name}_auc``, ``{name}_tpr_10`` and ``{name}_tpr_1``; and
        the AUC at every single time, with the columns ``time``, ``value``, ``low``, ``high``. The best of many times
        is no estimate of what an attacker reaches, who has to choose it beforehand.

    Raises:
        ValueError: if losses are not finite, or do not match profiles and times.
    """
    ours, theirs = (
        np.asarray(loss(part.values), dtype=np.float64).reshape(len(part.labels), -1) for part in (members, non_members)
    )
    for found, part in ((ours, members), (theirs, non_members)):
        if found.shape != (len(part.labels), len(times)) or not np.isfinite(found).all():
            raise ValueError(
                f"expected finite losses for {len(part.labels)} profiles at {len(times)} times, found an array "
                f"{found.shape} with {int((~np.isfinite(found)).sum())} values that are not finite."
            )
    together, labels = np.concatenate([ours, theirs]), np.concatenate([members.labels, non_members.labels])
    scores = np.zeros_like(together)
    for label in np.unique(labels):
        rows = labels == label
        low, middle, high = np.quantile(together[rows], [0.25, 0.5, 0.75], axis=0)
        scores[rows] = (middle - together[rows]) / np.where(high > low, high - low, 1.0)
    mean = scores.mean(axis=1)
    estimates = attack(name, mean[: len(ours)], members, mean[len(ours) :], non_members, seed)
    single = [auc(-ours[:, i], members, -theirs[:, i], non_members) for i in range(len(times))]
    by_time = pd.DataFrame([{"time": t, **found._asdict()} for t, found in zip(times, single, strict=True)])
    return as_table(estimates), by_time[["time", "value", "low", "high"]]


def attack(
    name: str, ours: np.ndarray, members: ProfileSet, theirs: np.ndarray, non_members: ProfileSet, seed: int
) -> dict[str, Estimate]:
    """AUC and true-positive rates of scores ``ours`` of members and ``theirs`` of non-members, by metric name."""
    found = {f"{name}_auc": auc(ours, members, theirs, non_members)}
    for rate in FALSE_POSITIVES:
        found[f"{name}_tpr_{round(100 * rate)}"] = true_positive_rate(ours, members, theirs, non_members, rate, seed)
    return found


def auc(ours: np.ndarray, members: ProfileSet, theirs: np.ndarray, non_members: ProfileSet) -> Estimate:
    """How often a member scores above a non-member of the same class, ties counting half; null .5.

    Classes are weighted as in van Elteren's (1960) test, by m n / (m + n), not by their m n pairs, so that the
    largest do not rule. The interval is that of DeLong et al. (1988), doi:10.2307/2531595, with the components of
    one donor summed before they are squared (Obuchowski 1997, doi:10.2307/2533958), symmetric in the logit.

    Args:
        ours, theirs: scores (n,) of ``members`` and of ``non_members``.

    Returns:
        NaN with a note if a side has fewer than ``MIN_DONORS`` donors in classes that both have.
    """
    won, lost = np.zeros(len(ours)), np.zeros(len(theirs))  # weighted wins of a member, losses of a non-member
    met, faced = np.zeros(len(ours)), np.zeros(len(theirs))  # weighted pairs
    for label in np.intersect1d(members.labels, non_members.labels):
        rows, others = members.labels == label, non_members.labels == label
        a, b = ours[rows], theirs[others]
        weight = 1 / (len(a) + len(b))
        won[rows], met[rows] = weight * count_below(a, b), weight * len(b)
        lost[others], faced[others] = weight * (len(a) - count_below(b, a)), weight * len(a)
    if note := _too_few(members.donors[met > 0], non_members.donors[faced > 0]):
        return undefined(0.5, len(theirs), note)
    pairs = met.sum()
    value = won.sum() / pairs
    components = np.concatenate([won - value * met, lost - value * faced])
    donors, index = np.unique(np.concatenate([members.donors, non_members.donors]), return_inverse=True)
    by_donor = np.bincount(index, components)
    error = np.sqrt(np.square(by_donor).sum() * len(donors) / (len(donors) - 1)) / pairs
    low = high = value
    if 0 < value < 1:
        reach = NORMAL * error / (value * (1 - value))
        low, high = expit(logit(value) - reach), expit(logit(value) + reach)
    return Estimate(float(value), float(low), float(high), 0.5, len(theirs))


def true_positive_rate(
    ours: np.ndarray,
    members: ProfileSet,
    theirs: np.ndarray,
    non_members: ProfileSet,
    rate: float,
    seed: int,
    replicates: int = REPLICATES,
) -> Estimate:
    """Share of members above the score that at most a share ``rate`` of the non-members exceed; null ``rate``.

    What Carlini et al. (2022), arXiv:2112.03570, ask of an attack: an AUC hides a few members that are sure to be
    recognised. Scores are taken from the median of all candidates of the class, and members weigh as the
    composition of the non-members. The interval is a percentile bootstrap over donors.

    Returns:
        NaN with a note if a side has too few donors, or if the non-members do not determine the threshold: unless
        (1 - rate)^donors < .025, even the highest of their scores may lie above the true one.
    """
    shared = np.intersect1d(members.labels, non_members.labels)
    kept, others = np.isin(members.labels, shared), np.isin(non_members.labels, shared)
    donors, other_donors = members.donors[kept], non_members.donors[others]
    needed = math.ceil(math.log(0.025) / math.log1p(-rate))
    note = _too_few(donors, other_donors)
    if not note and (found := len(np.unique(other_donors))) < needed:
        note = (
            f"a false-positive rate of {rate:.0%} rests on {math.floor(rate * len(other_donors))} of "
            f"{len(other_donors)} non-members; {needed} donors are needed, {found} are there"
        )
    if note:
        return undefined(rate, len(theirs), note)
    ours, theirs, labels, other_labels = ours[kept], theirs[others], members.labels[kept], non_members.labels[others]
    ours, theirs, weights = ours.astype(np.float64), theirs.astype(np.float64), np.empty(len(ours))
    for label in shared:
        a, b = labels == label, other_labels == label
        middle = np.median(np.concatenate([ours[a], theirs[b]]))
        ours[a] -= middle
        theirs[b] -= middle
        weights[a] = b.sum() / a.sum()

    order, other_order = np.argsort(-ours), np.argsort(-theirs)
    above = np.searchsorted(-ours[order], -theirs[other_order], side="left")  # members above each non-member

    def rates(drawn: np.ndarray, other_drawn: np.ndarray) -> np.ndarray:
        """True-positive rates (replicates,) for counts of each member and each non-member, (replicates, n)."""
        false = other_drawn[:, other_order].cumsum(axis=1)
        first = (false <= rate * false[:, -1:] + 1e-9).sum(axis=1)  # the non-member at which the threshold lies
        true = np.pad((drawn * weights)[:, order].cumsum(axis=1), ((0, 0), (1, 0)))
        return true[np.arange(len(true)), above[first]] / true[:, -1]

    value = rates(np.ones((1, len(ours))), np.ones((1, len(theirs))))[0]
    spread = rates(*(_redrawn(names, replicates, seed, i) for i, names in enumerate((donors, other_donors))))
    low, high = np.quantile(spread, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high), rate, len(theirs))


def kernel_ratio(
    synthetic: np.ndarray, labels: np.ndarray, reference: ProfileSet
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """DOMIAS with kernels: log density of synthetic profiles over that of reference profiles, a score per query.

    van Breugel et al. (2023), arXiv:2302.12580. Their densities do not fit a thousand genes and some hundred
    profiles; here all kernels are Gaussians with the Ledoit-Wolf covariance of both sets' profiles within their
    class. In that metric the few profiles are far apart and a narrower or wider kernel changes little.

    Returns:
        A function of queries (n, n_genes) and their classes (which it does not use) to scores (n,).
    """
    residuals = np.concatenate([_within(synthetic, labels), _within(reference.values, reference.labels)])
    axes, variances, _ = _covariance(residuals)
    # in the precision of the profiles: of all products of these attacks, those of all pairs take the longest
    axes = (axes / np.sqrt(variances)).astype(np.result_type(synthetic, np.float32), copy=False)
    centres = [_along(values, axes) for values in (synthetic, reference.values)]

    def score(values: np.ndarray, _: np.ndarray) -> np.ndarray:
        points = _along(values, axes)
        of_synthetic, of_reference = (_log_density(points, part) for part in centres)
        return of_synthetic - of_reference

    return score


def gaussian_ratio(
    synthetic: np.ndarray, labels: np.ndarray, reference: ProfileSet
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """DOMIAS with Gaussians: each set has its class means and one Ledoit-Wolf covariance within classes.

    What it finds is no copy but a fit too close: class means and leading axes that follow the training profiles.

    Returns:
        A function of queries (n, n_genes) and their classes to scores (n,), up to a constant.
    """
    models = []
    for values, classes in ((synthetic, labels), (reference.values, reference.labels)):
        found = np.unique(classes)
        means: dict[Any, np.ndarray] = dict(zip(found, class_means(values, classes, found), strict=True))
        models.append((means, *_covariance(_within(values, classes))))
    fallback = models[0][0]

    def score(values: np.ndarray, classes: np.ndarray) -> np.ndarray:
        distances = []
        for means, axes, variances, rest in models:
            squared = np.empty(len(values))
            for start in range(0, len(values), BLOCK):
                rows = slice(start, start + BLOCK)
                away = values[rows] - np.stack([means.get(label, fallback[label]) for label in classes[rows]])
                along = np.square(away @ axes)
                off = (np.square(away).sum(axis=1) - along.sum(axis=1)).clip(min=0)
                squared[rows] = (along / variances).sum(axis=1) + off / rest
            distances.append(squared)
        return (distances[1] - distances[0]) / 2

    return score


def known_axes_ratio(
    synthetic: np.ndarray, labels: np.ndarray, reference: ProfileSet, axes: np.ndarray
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The attack on class means by one who knows how profiles vary within classes, from a public cohort.

    The log likelihood ratio of two Gaussians with one covariance around the means of synthetic profiles and of other
    donors. The covariance has the correlations of the public cohort, mixed with the identity by Ledoit and Wolf's
    formula, and the variances of the synthetic profiles. Homer et al. (2008), doi:10.1371/journal.pgen.1000167, showed
    for frequencies of alleles that means alone can tell members.

    Args:
        axes: within-class residuals of the public cohort per unit of their scale, (n, n_genes).

    Returns:
        A function of queries (n, n_genes) and their classes to scores (n,), up to a constant of the class.
    """
    residuals = _within(synthetic, labels)
    scale = np.sqrt(np.square(residuals).mean(axis=0))
    scale[scale <= 1e-9 * scale.max(initial=1e-300)] = np.inf
    rotation, variances, rest = _covariance(axes)
    found = np.unique(labels)
    ours = dict(zip(found, class_means(synthetic, labels, found), strict=True))
    known = np.unique(reference.labels)
    theirs = dict(zip(known, class_means(reference.values, reference.labels, known), strict=True))

    def score(values: np.ndarray, classes: np.ndarray) -> np.ndarray:
        scores = np.zeros(len(values))
        for label in np.unique(classes):
            if label not in ours or label not in theirs:
                continue  # nothing to compare with: all candidates of the class are alike
            rows = classes == label
            difference = (ours[label] - theirs[label]) / scale
            along = rotation.T @ difference
            direction = rotation @ (along / variances) + (difference - rotation @ along) / rest
            scores[rows] = (values[rows] / scale) @ direction
        return scores

    return score


def _within(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Up to ``LIMIT`` profiles, each without the mean of its class, float64; sums of squares are unbiased."""
    taken = np.unique(np.linspace(0, len(values) - 1, LIMIT).astype(np.int64)) if len(values) > LIMIT else ...
    values, labels = values[taken], labels[taken]
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    # a class of one says nothing of the scatter within classes
    unbiased = np.sqrt(counts / np.maximum(counts - 1, 1))
    return within_class_residuals(values, labels) * unbiased[codes, None]


def _covariance(residuals: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Axes (n_genes, rank) of centred residuals, the Ledoit-Wolf variances along them (rank,), and off them."""
    shrinkage, mean = ledoit_wolf(residuals)
    variances, axes = principal_axes(residuals, LIMIT)
    # a covariance of many profiles is hardly shrunken, but what lies off its axes needs a variance
    rest = max(shrinkage * mean, 1e-6 * mean)
    return axes, (1 - shrinkage) * variances + rest, rest


def _along(values: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Coordinates (n, rank), in blocks, since the product would copy all profiles to float64."""
    return np.concatenate([values[start : start + BLOCK] @ axes for start in range(0, len(values), BLOCK)])


def _log_density(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Log density, up to a constant, of standard normal kernels around ``centres``, (n_points,)."""
    norms, found = np.square(centres).sum(axis=1), np.empty(len(points))
    for start in range(0, len(points), BLOCK):
        x = points[start : start + BLOCK]
        exponents = x @ centres.T
        exponents -= norms / 2
        largest = exponents.max(axis=1)
        np.exp(np.subtract(exponents, largest[:, None], out=exponents), out=exponents)
        lengths = np.square(x).sum(axis=1, dtype=np.float64)
        found[start : start + BLOCK] = largest + np.log(exponents.sum(axis=1, dtype=np.float64)) - lengths / 2
    return found - np.log(len(centres))


def _too_few(donors: np.ndarray, others: np.ndarray) -> str:
    found = len(np.unique(donors)), len(np.unique(others))
    if min(found) >= MIN_DONORS:
        return ""
    return f"{found[0]} member and {found[1]} other donors in shared classes; {MIN_DONORS} of each are needed"


def _redrawn(donors: np.ndarray, replicates: int, seed: int, side: int) -> np.ndarray:
    """How often each profile occurs when its donors are drawn with replacement, (replicates, n)."""
    found, index = np.unique(donors, return_inverse=True)
    return resampled(len(found), replicates, seed, side)[:, index]
