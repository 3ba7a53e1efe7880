"""Differential expression between groups, for all genes at once, and whether two sets of profiles agree on it.

Values are log2(x + 1) here, not standardised: a difference of group means is a log-fold change in log2 units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import permutations
from typing import Self

import numpy as np
import pandas as pd
from scipy.special import digamma, polygamma, stdtr, stdtrit
from scipy.stats import false_discovery_control

from transcriptome_diffusion.metrics.statistics import pearson
from transcriptome_diffusion.metrics.threads import one_thread_if_small

#: genes per block, in float64
BLOCK = 1024
#: fewest profiles of a group that is compared; with two, its mean is known to no better than single profiles scatter
SMALLEST = 3
#: fewest significant genes from which a share is computed
FEWEST_GENES = 10
#: share of the differences' variance that must be more than sampling noise, for a slope on them
RELIABLE = 0.2


@dataclass(frozen=True, eq=False)
class Groups:
    """What the tests need of a set of profiles.

    Attributes:
        names: the groups, sorted, (n_groups,).
        sizes: profiles per group, (n_groups,).
        mean: log2 units, (n_groups, n_genes) float64.
        variance: unbiased, 0 for a single profile, (n_groups, n_genes) float64.
        tested: ``differential_expression`` by contrasts, as held-out profiles are compared with many others.
    """

    names: tuple[str, ...]
    sizes: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    tested: dict[tuple[object, ...], Differences] = field(init=False, repr=False, default_factory=dict)

    @classmethod
    @one_thread_if_small
    def of(cls, values: np.ndarray, labels: np.ndarray) -> Self:
        """Means and variances of the groups ``labels`` (n,) of ``values`` (n, n_genes), in blocks of genes.

        Raises:
            ValueError: if there is not one label per profile, no profile at all, or values are not finite.
        """
        if values.ndim != 2 or len(values) != len(labels) or not len(values):
            raise ValueError(
                f"expected (n, n_genes) with one label per profile, found {values.shape} and {len(labels)} labels."
            )
        names, codes = np.unique(np.asarray(labels).astype(str), return_inverse=True)
        sizes = np.bincount(codes)
        member = (codes == np.arange(len(names))[:, None]).astype(np.float64)
        mean, variance = np.empty((2, len(names), values.shape[1]))
        for start in range(0, values.shape[1], BLOCK):
            genes = slice(start, start + BLOCK)
            part = values[:, genes].astype(np.float64)
            mean[:, genes] = member @ part / sizes[:, None]
            part -= mean[codes, genes]
            variance[:, genes] = member @ np.square(part, out=part) / np.maximum(sizes - 1, 1)[:, None]
        variance[variance <= 1e-20 * np.square(mean)] = 0.0  # constant but for rounding
        if not np.isfinite(mean).all():
            raise ValueError(f"{int((~np.isfinite(mean)).any(axis=0).sum())} genes hold NaN or infinite values.")
        return cls(tuple(names.tolist()), sizes, mean, variance)

    def rescaled(self, scale: np.ndarray) -> Self:
        """As if every gene had been multiplied by its ``scale`` (n_genes,): from standard deviations to log2 units."""
        return replace(self, mean=self.mean * scale, variance=self.variance * np.square(scale))

    def size(self, name: str) -> int:
        """Profiles of the group ``name``, 0 if there is none."""
        return int(self.sizes[self.names.index(name)]) if name in self.names else 0

    def pooled(self) -> tuple[np.ndarray, int]:
        """Variance within groups, pooled over them, (n_genes,), and its degrees of freedom."""
        degrees = self.sizes - 1
        if not degrees.sum():
            raise ValueError("no group has two profiles; there is no variance to test against.")
        return degrees @ self.variance / degrees.sum(), int(degrees.sum())


@dataclass(frozen=True, eq=False)
class Differences:
    """A test per contrast and gene; arrays are (n_contrasts, n_genes) unless stated.

    Attributes:
        contrasts: their names.
        effect: log-fold change, in log2 units.
        statistic: t.
        degrees: of freedom of t.
        standardised: effect in within-group standard deviations (the moderated ones).
        noise: mean sampling variance of ``effect`` over the genes, (n_contrasts,).
        noise_standardised: that of ``standardised``, (n_contrasts,).
    """

    contrasts: tuple[str, ...]
    effect: np.ndarray
    statistic: np.ndarray
    degrees: float
    standardised: np.ndarray
    noise: np.ndarray
    noise_standardised: np.ndarray

    @cached_property
    def p(self) -> np.ndarray:
        """Two-sided."""
        return 2 * stdtr(self.degrees, -np.abs(self.statistic))

    @cached_property
    def q(self) -> np.ndarray:
        """``p`` adjusted within the contrast after Benjamini and Hochberg."""
        return false_discovery_control(self.p, axis=1)

    def significant(self, fdr: float) -> np.ndarray:
        """Where ``q`` is below ``fdr``."""
        return discoveries(np.abs(self.statistic), self.degrees, fdr, sides=2)


# ------------------------------------------------------------------------------------------- contrasts
def one_against_others(*sets: Groups) -> dict[str, dict[str, float]]:
    """Each group against the mean of the other groups' means, whatever their sizes: name -> weight of each group.

    Groups with fewer than ``SMALLEST`` profiles in any of ``sets`` are left out altogether.

    Raises:
        ValueError: if fewer than two groups are left.
    """
    names = _large_in_all(sets)
    return {name: {other: 1.0 if other == name else -1 / (len(names) - 1) for other in names} for name in names}


def joint_labels(labels: np.ndarray, conditions: np.ndarray) -> np.ndarray:
    """The combined group of each profile, ``liver | tumor``: what ``within`` makes contrasts of."""
    return np.array([f"{label} | {condition}" for label, condition in zip(labels, conditions, strict=True)], dtype=str)


def within(first: str, second: str, *sets: Groups) -> dict[str, dict[str, float]]:
    """``first`` against ``second`` inside each label, for groups of ``joint_labels``; for instance tumor, normal.

    Only labels with ``SMALLEST`` profiles of both in all ``sets`` are contrasted; there may be none.
    """
    labels = dict.fromkeys(name.rpartition(" | ")[0] for name in sets[0].names)
    names = {label: (f"{label} | {first}", f"{label} | {second}") for label in labels}
    return {
        label: {a: 1.0, b: -1.0}
        for label, (a, b) in names.items()
        if min(groups.size(name) for groups in sets for name in (a, b)) >= SMALLEST
    }


def _large_in_all(sets: Sequence[Groups]) -> list[str]:
    names = [name for name in sets[0].names if min(groups.size(name) for groups in sets) >= SMALLEST]
    if len(names) < 2:
        raise ValueError(
            f"differences need two groups with {SMALLEST} profiles or more in every set, found {names} of "
            f"{list(sets[0].names)}; score more profiles or join groups."
        )
    return names


# ----------------------------------------------------------------------------------------------- tests
def differential_expression(groups: Groups, contrasts: Mapping[str, Mapping[str, float]]) -> Differences:
    """Test every contrast of group means in every gene by the moderated t.

    Its variance is pooled over all groups and shrunk towards a prior common to the genes, Smyth (2004),
    doi:10.2202/1544-6115.1027 (limma without a trend); with groups of a few profiles the single genes' variances are
    too uncertain.

    Args:
        contrasts: name -> weight of each group; weights that sum to 0.

    Raises:
        ValueError: if a contrast names an unknown group, or its weights do not sum to 0.
    """
    key = tuple((name, *contrast.items()) for name, contrast in contrasts.items())
    if key not in groups.tested:
        groups.tested[key] = _differential_expression(groups, contrasts)
    return groups.tested[key]


def _differential_expression(groups: Groups, contrasts: Mapping[str, Mapping[str, float]]) -> Differences:
    weights = np.zeros((len(contrasts), len(groups.names)))
    for row, (name, contrast) in enumerate(contrasts.items()):
        if unknown := sorted(set(contrast) - set(groups.names)):
            raise ValueError(f"contrast {name!r} names {unknown}; the groups are {list(groups.names)}.")
        if abs(sum(contrast.values())) > 1e-9:
            raise ValueError(f"the weights of contrast {name!r} sum to {sum(contrast.values()):.3g}, expected 0.")
        for group, weight in contrast.items():
            weights[row, groups.names.index(group)] = weight
    effect = weights @ groups.mean
    per_profile = np.square(weights) / groups.sizes
    own = per_profile @ groups.variance  # sampling variance with each group's own variance
    pooled, degrees = groups.pooled()
    shrunk, prior = squeeze(pooled, degrees)
    statistic = _ratio(effect, np.sqrt(per_profile.sum(axis=1)[:, None] * shrunk))
    return Differences(
        contrasts=tuple(contrasts),
        effect=effect,
        statistic=statistic,
        degrees=min(degrees + prior, float(degrees * len(pooled))),
        standardised=_ratio(effect, np.sqrt(shrunk)),
        noise=own.mean(axis=1),
        noise_standardised=_ratio(own, shrunk).mean(axis=1),
    )


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """0 where the denominator is: a gene that never varies says nothing."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def squeeze(variance: np.ndarray, degrees: int) -> tuple[np.ndarray, float]:
    """Posterior variances (n_genes,) and the prior's degrees of freedom (infinite: all genes share one variance).

    Moments of log s² against a scaled F distribution, section 6.2 of Smyth (2004), doi:10.2202/1544-6115.1027. Genes
    that do not vary count for the prior as in limma, as if they varied a little.
    """
    middle = np.median(variance)
    floor = 1e-5 * (middle if middle > 0 else variance.max())
    if floor == 0:
        return variance, 0.0
    log_variance = np.log(np.maximum(variance, floor)) - digamma(degrees / 2) + np.log(degrees / 2)
    excess = (log_variance.var(ddof=1) if len(variance) > 1 else 0.0) - polygamma(1, degrees / 2)
    if excess <= 0:
        return np.full_like(variance, np.exp(log_variance.mean())), np.inf
    prior = 2 * inverse_trigamma(float(excess))
    location = np.exp(log_variance.mean() + digamma(prior / 2) - np.log(prior / 2))
    return (prior * location + degrees * variance) / (prior + degrees), prior


def inverse_trigamma(value: float) -> float:
    """The x with trigamma(x) = ``value`` > 0: Newton's method on 1 / trigamma, which is convex (Smyth 2004)."""
    if value > 1e7:
        return 1 / np.sqrt(value)
    if value < 1e-6:
        return 1 / value
    x = 0.5 + 1 / value
    for _ in range(50):
        found = float(polygamma(1, x))
        step = found * (1 - found / value) / float(polygamma(2, x))
        x += step
        if -step < 1e-10 * x:
            break
    return x


def discoveries(statistic: np.ndarray, degrees: float, fdr: float, sides: int) -> np.ndarray:
    """Where the p-value of t (n_contrasts, n_genes), adjusted by contrast as in ``Differences``, is below ``fdr``.

    Only p-values below ``fdr`` can be, and only these are computed.
    """
    found = np.zeros(statistic.shape, dtype=bool)
    for row, t in zip(found, statistic, strict=True):
        genes = np.flatnonzero(t > -stdtrit(degrees, fdr / sides))
        p = sides * stdtr(degrees, -t[genes])
        ordered = np.sort(p)
        below = ordered[ordered * len(t) < fdr * np.arange(1, len(p) + 1)]
        row[genes] = p <= below.max(initial=-1.0)
    return found


# ------------------------------------------------------------------------------------------- agreement
def agreement(reference: Differences, candidate: Differences, top: int = 100, fdr: float = 0.05) -> pd.DataFrame:
    """Whether the tests of two sets of profiles agree, a row per contrast.

    The ceiling is the row ``real``: train donors as the candidate, held-out donors as the reference.

    - ``lfc_slope``: of the candidate's log-fold changes on the reference's, over all genes; best and null 1, below 1
      differences are washed out, 0 without any. The variance that sampling adds to the reference's differences is
      taken off, so that 1 holds at any size: errors in variables, Fuller (1987), doi:10.1002/9780470316665. A
      candidate that has learnt the reference's own noise exceeds 1, so the reference should be held out.
    - ``lfc_correlation``: Pearson, over all genes; best 1, 0 for unrelated differences. Noise counts: compare with
      ``real``.
    - ``effect_size_slope``: as ``lfc_slope``, of differences in within-group standard deviations; above 1 tests on the
      candidate look surer than tests on real profiles, as they do after a collapse.
    - ``sign_agreement``: share of genes significant in the reference (q below ``fdr``) whose difference has the same
      sign; best 1, .5 for unrelated differences.
    - ``top_overlap``: share of the reference's ``top`` genes by |t| among the candidate's; best 1, ``top`` / n_genes by
      chance. With this overlap o, Jaccard's index is o / (2 - o).

    Returns:
        Also ``significant``, genes with q below ``fdr`` in the reference; ``note``, why a number is missing; and the
        slopes' ``_weight``, the variance they rest on: ``summarise`` averages them with it, since the slope of a
        small group is wild and, as a ratio, too large on average.

    Raises:
        ValueError: if the two have other contrasts or another number of genes.
    """
    if reference.contrasts != candidate.contrasts or reference.effect.shape != candidate.effect.shape:
        raise ValueError(
            f"expected the same contrasts of the same genes, found {list(reference.contrasts)} "
            f"{reference.effect.shape} and {list(candidate.contrasts)} {candidate.effect.shape}."
        )
    rows, found = [], reference.significant(fdr)
    for i, contrast in enumerate(reference.contrasts):
        ours, theirs, significant = reference.effect[i], candidate.effect[i], found[i]
        notes = []
        slope, signal = _slope(ours, theirs, reference.noise[i])
        size_slope, size_signal = _slope(
            reference.standardised[i], candidate.standardised[i], reference.noise_standardised[i]
        )
        if np.isnan(slope):
            notes.append("differences in the reference are little more than sampling noise")
        if significant.sum() < FEWEST_GENES:
            notes.append(f"only {significant.sum()} significant genes in the reference")
            same = np.nan
        else:
            same = float((np.sign(ours) == np.sign(theirs))[significant].mean())
        if too_few := len(ours) < 2 * top:
            notes.append(f"{len(ours)} genes are too few for an overlap of the top {top}")
        rows.append(
            {
                "contrast": contrast,
                "lfc_slope": slope,
                "lfc_correlation": pearson(ours, theirs),
                "effect_size_slope": size_slope,
                "sign_agreement": same,
                "top_overlap": np.nan
                if too_few
                else _overlap(np.abs(reference.statistic[i]), np.abs(candidate.statistic[i]), top),
                "lfc_slope_weight": signal,
                "effect_size_slope_weight": size_signal,
                "significant": int(significant.sum()),
                "note": "; ".join(notes),
            }
        )
    return pd.DataFrame(rows)


def marker_recovery(reference: Groups, candidate: Groups, top: int = 50, fdr: float = 0.05) -> pd.DataFrame:
    """Whether the candidate's marker genes are the reference's, a row per group.

    A marker is higher in its group than in every other one: its score is the smallest of the moderated t against each
    other group, and its p the largest of theirs (the intersection-union test, Berger 1982,
    doi:10.1080/00401706.1982.10487790). The reference's markers are its ``top`` genes by score, as far as their q is
    below ``fdr``.

    - ``markers_recovered``: share of them among as many of the candidate's top genes; best 1, ``markers`` / n_genes by
      chance. Similar groups have few markers, and fewer agree between real donors: compare with ``real``.

    Returns:
        ``group``, ``markers_recovered``, ``markers`` (how many the reference has, at most ``top``), ``note``.

    Raises:
        ValueError: if fewer than two groups are large enough in both sets.
    """
    names = _large_in_all((reference, candidate))
    (ours, degrees), (theirs, _) = (_marker_scores(groups, names) for groups in (reference, candidate))
    significant = discoveries(ours, degrees, fdr, sides=1)
    rows = []
    for i, name in enumerate(names):
        markers = min(top, int(significant[i].sum()))
        few = markers < FEWEST_GENES
        rows.append(
            {
                "group": name,
                "markers_recovered": np.nan if few else _overlap(ours[i], theirs[i], markers),
                "markers": markers,
                "note": f"only {markers} markers in the reference" if few else "",
            }
        )
    return pd.DataFrame(rows)


def _marker_scores(groups: Groups, names: Sequence[str]) -> tuple[np.ndarray, float]:
    """Smallest t against any other group, (n_names, n_genes), and its degrees of freedom."""
    pooled, degrees = groups.pooled()
    shrunk, prior = squeeze(pooled, degrees)
    rows = [groups.names.index(name) for name in names]
    means, shares = groups.mean[rows], 1 / groups.sizes[rows]
    smallest = np.full_like(means, np.inf)
    for i, j in permutations(range(len(rows)), 2):
        # the deviation of the gene is common to all
        np.minimum(smallest[i], (means[i] - means[j]) / np.sqrt(shares[i] + shares[j]), out=smallest[i])
    return _ratio(smallest, np.sqrt(shrunk)), min(degrees + prior, float(degrees * len(pooled)))


def _slope(x: np.ndarray, y: np.ndarray, noise: float) -> tuple[float, float]:
    """Slope of y on what x would be without its noise, and the variance of that; NaN where noise is nearly all."""
    variance = float(x.var())
    signal = variance - noise
    if signal < RELIABLE * variance or variance == 0:
        return np.nan, signal
    return float((x - x.mean()) @ (y - y.mean()) / (len(x) * signal)), signal


def _overlap(x: np.ndarray, y: np.ndarray, top: int) -> float:
    """Share of the ``top`` largest of x among those of y."""
    return len(np.intersect1d(largest(x, top), largest(y, top))) / top


def largest(values: np.ndarray, top: int) -> np.ndarray:
    """Places of the ``top`` largest of ``values`` (n,), n >= ``top``; of equal ones the first."""
    found = np.flatnonzero(values >= np.partition(values, len(values) - top)[len(values) - top])
    return found[np.argsort(-values[found], kind="stable")[:top]]
