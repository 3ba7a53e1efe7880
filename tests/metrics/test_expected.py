"""The expectation of the adversarial accuracy against simulated samples of one population."""

import numpy as np
import pytest

from transcriptome_diffusion.metrics.expected import expected_adversarial_accuracy
from transcriptome_diffusion.metrics.fidelity import memberships

SIZES = np.array([3, 6, 15])
LABELS = np.repeat(np.arange(3), SIZES)


def halves(distance, seed):
    """Both halves of two samples with the same classes, and how often a nearest neighbour has the class, by class."""
    rng = np.random.default_rng(seed)
    centres = distance * np.eye(3)
    both = np.concatenate([centres, centres])[np.concatenate([LABELS, LABELS + 3])] + rng.normal(size=(48, 3))
    found = memberships(both[:24].astype(np.float32), both[24:].astype(np.float32), 1)
    apart = np.linalg.norm(both[:, None] - both, axis=2)
    np.fill_diagonal(apart, np.inf)
    classes = np.tile(LABELS, 2)
    same = classes[apart.argmin(axis=1)] == classes
    return found.real_apart.mean(), found.synthetic_apart.mean(), [same[classes == c].mean() for c in range(3)]


@pytest.mark.parametrize("distance", [0, 2, 50])
def test_both_halves_have_the_expectation_whether_classes_are_far_apart_or_the_same(distance):
    real, synthetic, own = zip(*(halves(distance, seed) for seed in range(600)), strict=True)
    expected = expected_adversarial_accuracy(SIZES, np.mean(own, axis=0))
    error = np.std(real, ddof=1) / np.sqrt(600)
    assert error < 0.006
    assert np.mean(real) == pytest.approx(expected, abs=3 * error)
    assert np.mean(synthetic) == pytest.approx(expected, abs=3 * error)


def test_classes_far_apart_have_the_closed_form_and_one_population_that_of_one_class():
    shares = [2 / 5, 5 / 11, 14 / 29]
    assert expected_adversarial_accuracy(SIZES) == pytest.approx(np.average(shares, weights=SIZES))
    by_chance = (2 * SIZES - 1) / 47
    assert expected_adversarial_accuracy(SIZES, by_chance) == pytest.approx(23 / 47)
    assert expected_adversarial_accuracy(np.array([24])) == pytest.approx(23 / 47)
