"""Class means and class factors under (epsilon, delta)-differential privacy at the level of donors.

Neighbouring cohorts differ by one donor with all of their profiles, who is there or not. Gaussian mechanisms release
sums over donors, of which each contributes a clipped vector: the means in two steps, then, given these, how much
classes vary. Everything after that is post-processing. What is taken for public: the reference cohort, the list of
genes, the unit, the names of the classes, and all settings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

#: weight of a donor's count next to the length that their vector is clipped to
COUNT_WEIGHT = 0.5
#: donors of a class that the first step is planned for, as their numbers are not public
PLANNED_DONORS = 25
#: where a donor's mean square is clipped, in units of what is expected
LARGEST_SQUARE = 2.0
#: bounds of a class factor
FACTORS = (0.25, 4.0)

INSTALL = 'differential privacy needs dp-accounting: pip install "transcriptome-diffusion[privacy]".'


def noise_multiplier(epsilon: float, delta: float) -> float:
    """Standard deviation of the noise of one Gaussian mechanism per unit of sensitivity.

    The exact condition of Balle & Wang (2018), arXiv:1805.06530, as Google's ``dp-accounting`` solves it.

    Raises:
        ModuleNotFoundError: if that library is not installed.
    """
    try:
        from dp_accounting import get_sigma_gaussian
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(INSTALL) from error
    return float(get_sigma_gaussian(epsilon, delta))


def split_noise(multiplier: float, *shares: float) -> tuple[float, ...]:
    """Noise multipliers of mechanisms which, one after the other, are as private as one with ``multiplier``.

    Gaussian mechanisms compose by the sum of their squared signals 1 / multiplier² (Dong et al. 2022,
    arXiv:1905.02383, corollary 3.3), also where a later one depends on what earlier ones gave. ``shares`` of it go to
    the mechanisms; less than 1 in all leaves the rest to others.
    """
    return tuple(multiplier / math.sqrt(share) for share in shares)


def donor_sums(
    values: np.ndarray, codes: np.ndarray, donors: np.ndarray, n_classes: int, clip: float
) -> tuple[np.ndarray, np.ndarray]:
    """Per class the sum of its donors' vectors and of their weights.

    A donor has one vector in each of their classes, the mean of their profiles there, shortened to the length
    ``clip`` if it is longer. A donor of m classes has the weight 1 / √m in each. With all vectors of a donor side by
    side, no donor changes the sums by more than ``clip`` and the weights by more than 1, in Euclidean length.

    Args:
        values: (n, k), finite. codes: class of each profile, below ``n_classes``. donors: (n,).

    Returns:
        Sums (n_classes, k) and weights (n_classes,).
    """
    _, donor = np.unique(donors.astype(str), return_inverse=True)
    pairs, place, counts = np.unique(donor * n_classes + codes, return_inverse=True, return_counts=True)
    vectors = np.zeros((len(pairs), values.shape[1]))
    np.add.at(vectors, place, values)
    vectors /= counts[:, None]
    lengths = np.linalg.norm(vectors, axis=1)
    classes_of_donor = np.bincount(pairs // n_classes)[pairs // n_classes]
    weights = 1 / np.sqrt(classes_of_donor)
    vectors *= (weights * np.minimum(1.0, clip / np.maximum(lengths, 1e-300)))[:, None]
    sums = np.zeros((n_classes, values.shape[1]))
    np.add.at(sums, pairs % n_classes, vectors)
    return sums, np.bincount(pairs % n_classes, weights, minlength=n_classes)


@dataclass(frozen=True)
class PublicPrior:
    """What is known of class means and profiles along k axes before the cohort is seen; from the reference.

    Attributes:
        within, between: variance of profiles in their class, and of class means, along each axis, (k,).
        clip: length, in units of what is expected of a donor, that vectors are shortened to.
        factor_variance: variance of class factors between classes.
    """

    within: np.ndarray
    between: np.ndarray
    clip: float
    factor_variance: float


@dataclass(frozen=True)
class PrivateMeans:
    """What was released of a cohort; all of it follows from noisy sums and the public prior.

    Attributes:
        means: of each class along the axes, shrunk towards the centre, (n_classes, k).
        counts: noisy numbers of donors, (n_classes,).
        factors: mean squares within each class, in units of ``PublicPrior.within``, (n_classes,).
    """

    means: np.ndarray
    counts: np.ndarray
    factors: np.ndarray


def release(
    values: np.ndarray,
    codes: np.ndarray,
    donors: np.ndarray,
    n_classes: int,
    prior: PublicPrior,
    multipliers: tuple[float, ...],
    rng: np.random.Generator,
) -> PrivateMeans:
    """Noisy class means, numbers of donors and class factors; the only place that reads the cohort under ``dp``.

    Three Gaussian mechanisms, each of which may use what those before it released:

    1. sums of vectors around the centre, and ``COUNT_WEIGHT`` times of weights: sensitivity √(1 + COUNT_WEIGHT²);
    2. sums of vectors around the estimated mean of their class, which are shorter, so that there is less noise on
       them: sensitivity 1. Biswas et al. (2020), arXiv:2006.06618, estimate a mean in such steps;
    3. sums of each donor's mean square around that mean: sensitivity 1.

    Vectors are in a unit in which they are clipped to the length 1. The unit of every axis is that with which the
    posterior variances of the means, summed over axes, are smallest. An estimate is the posterior mean under ``prior``.
    Noise is float64 from ``rng``, which does not close the side channel of floating-point numbers (Mironov 2012,
    doi:10.1145/2382196.2382264).

    Args:
        values: (n, k), coordinates of profiles around a public centre. codes, donors: as in ``donor_sums``.
        multipliers: noise of the three mechanisms, as ``split_noise`` gives it.
        rng: must not be known to others, nor seeded by what is published.
    """
    first, second, third = multipliers

    def noisy(vectors: np.ndarray, clip: float, deviation: float) -> tuple[np.ndarray, np.ndarray]:
        sums, weights = donor_sums(vectors, codes, donors, n_classes, clip)
        return sums + rng.normal(0, deviation, sums.shape), weights

    unit = planned_unit(prior.within, prior.between, first, prior.clip)
    deviation = first * math.sqrt(1 + COUNT_WEIGHT**2)
    sums, weights = noisy(values / unit, 1.0, deviation)
    counts = np.maximum(weights + rng.normal(0, deviation / COUNT_WEIGHT, n_classes), 1.0)[:, None]
    # of the mean over donors: its variance before anything is known, and precisions of what is measured
    spread = prior.between + prior.within / counts
    precision = np.square(counts / (deviation * unit))
    known = precision * (sums / counts * unit)
    posterior = 1 / (1 / spread + precision)
    centres = posterior * known

    unit = _unit(prior.within, posterior, second / counts, prior.clip)
    sums, _ = noisy((values - centres[codes]) / unit[codes], 1.0, second)
    precision = np.square(counts / (second * unit))
    known += precision * (centres + sums / counts * unit)
    posterior = 1 / (1 / posterior + precision)
    means = posterior * known

    expected = prior.within.sum()
    error = posterior.sum(axis=1) / expected  # of the means, in the unit of the factors
    limit = LARGEST_SQUARE * (1 + error)
    squares = np.square(values - means[codes]).sum(axis=1) / expected / limit[codes]
    totals, _ = noisy(squares[:, None], 1.0, third)
    factors = totals[:, 0] / counts[:, 0] * limit - error
    # a normal posterior around the mean of all classes
    noise = np.square(third * limit / counts[:, 0])
    weights = 1 / (noise + max(prior.factor_variance, 1e-12))
    pooled = np.average(factors, weights=weights)
    factors = np.clip(pooled + prior.factor_variance * weights * (factors - pooled), *FACTORS)
    shrunk = prior.between / (prior.between + factors[:, None] * prior.within / counts)
    return PrivateMeans(shrunk * means, counts[:, 0], factors)


def planned_unit(within: np.ndarray, between: np.ndarray, multiplier: float, clip: float) -> np.ndarray:
    """The unit of every axis (k,) in the first step, for classes of ``PLANNED_DONORS``; public."""
    deviation = multiplier * math.sqrt(1 + COUNT_WEIGHT**2)
    return _unit(within, between + within / PLANNED_DONORS, np.array([deviation / PLANNED_DONORS]), clip)


def _unit(within: np.ndarray, unknown: np.ndarray, noise: np.ndarray, clip: float) -> np.ndarray:
    """The unit of every axis, in which a donor's vector has the expected length 1 / ``clip``, (..., k).

    With unit u along an axis the noise on a mean has the deviation ``noise`` u. The units are those with which the
    posterior variances 1 / (1 / unknown + 1 / (noise u)²) have the smallest sum. Where the noise is small that is u =
    v^¼ for vectors of variance v; axes along which nothing could be learned through it are left out (a unit so large
    that nothing is measured), which leaves less noise on the others: reverse water-filling, Cover and Thomas (2006),
    section 10.3.

    Args:
        within: variance of donors around the mean, (k,). unknown: prior variance of the mean, (..., k).
        noise: deviation, per unit, of the noise on a mean, (..., 1).
    """
    root = np.sqrt(within + unknown)
    least = np.square(noise) / unknown * root  # the level from which on an axis is measured
    order = np.argsort(least, axis=-1)
    ordered, roots = np.take_along_axis(least, order, -1), np.take_along_axis(root, order, -1)
    levels = (clip**-2 + np.cumsum(ordered * roots, axis=-1)) / np.cumsum(roots, axis=-1)
    last = np.maximum((levels > ordered).sum(axis=-1, keepdims=True) - 1, 0)
    weights = np.maximum((np.take_along_axis(levels, last, -1) - least) / root, 0)
    return 1 / np.sqrt(np.maximum(weights, 1e-12 * weights.max(axis=-1, keepdims=True)))


def statement(epsilon: float, delta: float, released: str = "") -> dict[str, Any]:
    """In words what is protected and what is assumed, for the record of a model and its card.

    ``released`` is what comes beside class means, numbers of donors and class factors.
    """
    return {
        "epsilon": epsilon,
        "delta": delta,
        "protected": "one donor with all of their profiles: whether they are in the training cohort",
        "neighbours": "cohorts that differ by one donor, who is there or not",
        "public": "the reference cohort, the genes, the unit, the names of the classes, and the settings",
        "released": "class means, numbers of donors and class factors, all with noise"
        + (f"; {released}" if released else ""),
    }
