"""Class means and class factors under (epsilon, delta)-differential privacy at the level of donors.

Neighbouring cohorts differ by one donor with all of their profiles, who is there or not. Two Gaussian mechanisms
release sums over donors, of which each contributes a clipped vector: first the means, then, given these, how much
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
#: where a donor's mean square is clipped, in units of the reference's
LARGEST_SQUARE = 4.0
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


def split_noise(multiplier: float, share: float) -> tuple[float, float]:
    """Noise multipliers of two mechanisms which, one after the other, are as private as one with ``multiplier``.

    Gaussian mechanisms compose by the sum of their squared signals 1 / multiplier² (Dong et al. 2022,
    arXiv:1905.02383, corollary 3.3), also where the second depends on what the first gave. ``share`` of it goes to the
    second.
    """
    return multiplier / math.sqrt(1 - share), multiplier / math.sqrt(share)


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
class PrivateMeans:
    """What was released of a cohort.

    Attributes:
        means: of each class along the axes, noisy, (n_classes, k). counts: noisy numbers of donors, (n_classes,).
        errors: standard deviation of a mean's noise, alike along all axes, (n_classes,).
        factors: mean squares within each class, in units of ``expected``, (n_classes,).
    """

    means: np.ndarray
    counts: np.ndarray
    errors: np.ndarray
    factors: np.ndarray


def release(
    values: np.ndarray,
    codes: np.ndarray,
    donors: np.ndarray,
    n_classes: int,
    clip: float,
    expected: np.ndarray,
    multipliers: tuple[float, float],
    rng: np.random.Generator,
) -> PrivateMeans:
    """Noisy class means, numbers of donors and class factors; the only place that reads the cohort under ``dp``.

    The first mechanism releases sums of clipped vectors and, times ``COUNT_WEIGHT * clip``, of weights: its sensitivity
    is ``clip √(1 + COUNT_WEIGHT²)``. The second releases sums of each donor's mean square around the released mean,
    clipped to ``LARGEST_SQUARE``: its sensitivity is that number. Noise is float64 from ``rng``, which does not close
    the side channel of floating-point numbers (Mironov 2012, doi:10.1145/2382196.2382264).

    Args:
        values: (n, k), coordinates of profiles around a public centre. codes, donors, clip: as in ``donor_sums``.
        expected: public within-class variance along each axis, (k,).
        multipliers: noise of both mechanisms, as ``split_noise`` gives it.
        rng: must not be known to others, nor seeded by what is published.
    """
    first, second = multipliers
    sums, weights = donor_sums(values, codes, donors, n_classes, clip)
    deviation = first * clip * math.sqrt(1 + COUNT_WEIGHT**2)
    sums = sums + rng.normal(0, deviation, sums.shape)
    counts = weights + rng.normal(0, deviation / (COUNT_WEIGHT * clip), weights.shape)
    counts = np.maximum(counts, 1.0)
    means, errors = sums / counts[:, None], deviation / counts

    squares = (np.square(values - means[codes])).sum(axis=1, keepdims=True) / expected.sum()
    totals, _ = donor_sums(squares, codes, donors, n_classes, LARGEST_SQUARE)
    totals = totals[:, 0] + rng.normal(0, second * LARGEST_SQUARE, n_classes)
    noise = np.square(errors) * len(expected) / expected.sum()
    return PrivateMeans(means, counts, errors, np.clip(totals / counts - noise, *FACTORS))


def statement(epsilon: float, delta: float) -> dict[str, Any]:
    """In words what is protected and what is assumed, for the record of a model and its card."""
    return {
        "epsilon": epsilon,
        "delta": delta,
        "protected": "one donor with all of their profiles: whether they are in the training cohort",
        "neighbours": "cohorts that differ by one donor, who is there or not",
        "public": "the reference cohort, the genes, the unit, the names of the classes, and the settings",
        "released": "class means along axes of the reference, numbers of donors and class factors, all with noise",
    }
