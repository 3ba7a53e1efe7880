"""Diverged and collapsed generators are named, healthy samples are not."""

from __future__ import annotations

import numpy as np
import pytest

from transcriptome_diffusion.metrics.health import problems

CENTRES = np.random.default_rng(0).normal(0, 2, (3, 40))


def draw(seed: int, deviation: float = 1.0, n: int = 300, shuffled: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    values = CENTRES[labels] + deviation * rng.normal(size=(n, 40))
    return values, rng.permutation(labels) if shuffled else labels


def test_fresh_draws_of_the_population_are_healthy():
    found, sentences = problems(*draw(1), *draw(2))
    assert sentences == []
    assert found["spread"] == pytest.approx(1, abs=0.05)
    assert found["labels_kept"] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ({"deviation": 0.3}, "collapsed"),
        ({"deviation": 2.0}, "undertrained"),
        ({"shuffled": True}, "labels"),
    ],
)
def test_each_fault_is_named(fault, word):
    _, sentences = problems(*draw(1), *draw(2, **fault))
    assert any(word in sentence for sentence in sentences)


def test_a_collapsed_generator_scatters_as_little_as_it_does():
    found, _ = problems(*draw(1), *draw(2, deviation=0.5))
    assert found["spread"] == pytest.approx(0.25, rel=0.05)
