import numpy as np
import pytest

from transcriptome_diffusion.metrics.copying import Scatter, authenticity, copying, spread
from transcriptome_diffusion.metrics.neighbours import Pair, nearest, neighbour_distances


def draw(seed, n=400, genes=30):
    return np.random.default_rng(seed).normal(size=(n, genes))


def test_fresh_samples_reach_the_null_and_copies_reach_one():
    train = draw(0, 300)
    fresh = np.mean([copying(draw(i), train, draw(100 + i)) for i in range(1, 11)])
    assert fresh == pytest.approx(0.01, abs=0.006)
    assert copying(train[::2], train, draw(2)) == 1


def test_the_share_of_copies_is_what_was_mixed_in():
    train = draw(0, 300)
    half = np.concatenate([train[:200] + 1e-3, draw(1, 200)])
    assert copying(half, train, draw(2)) == pytest.approx(0.5, abs=0.02)


def test_far_samples_are_no_copies():
    assert copying(draw(1) + 10, draw(0), draw(2)) == 0


def test_a_higher_percentile_counts_more_as_copies():
    assert copying(draw(1), draw(0), draw(2), percentile=20) == pytest.approx(0.2, abs=0.07)


def authentic(synthetic, train):
    distances, closest = nearest(synthetic, train)
    return authenticity(distances, neighbour_distances(train, 1)[closest, 0])


def test_authenticity_has_its_null_in_one_gene():
    """A fresh point falls into a gap of length L, gamma of shape 2, at V L / 2 from the nearer end, whose gap on the
    other side is exponential: it is authentic with probability 1 - E exp(-V L / 2) = 1 - E (1 + V / 2)^-2 = 1 / 3.
    """
    found = [authentic(draw(2 * i + 1, genes=1), draw(2 * i, genes=1)) for i in range(20)]
    assert np.mean(found) == pytest.approx(1 / 3, abs=0.02)


def test_authenticity_is_that_of_its_definition():
    train, synthetic = draw(0, 90, 4), 0.7 * draw(1, 70, 4)
    across = np.linalg.norm(train[:, None] - synthetic[None], axis=2)
    within = np.linalg.norm(train[:, None] - train[None], axis=2)
    np.fill_diagonal(within, np.inf)
    expected = (across.min(axis=0) >= within.min(axis=1)[across.argmin(axis=0)]).mean()
    assert authentic(synthetic, train) == expected
    assert 0 < expected < 1


def test_copies_are_not_authentic_and_far_profiles_are():
    train = draw(0)
    assert authentic(train[np.random.default_rng(1).integers(400, size=400)], train) == 0
    assert authentic(draw(1) + 5, train) == 1


def two_classes(seed, scale, n=(800, 200)):
    labels = np.repeat(["a", "b"], n)
    shift = np.where(labels == "a", 0.0, 50.0)[:, None]
    return shift + scale * np.random.default_rng(seed).normal(size=(sum(n), 20)), labels


def test_spread_is_the_ratio_of_within_class_variances_whatever_the_composition():
    real = two_classes(0, 1.0)
    assert spread(*real, *two_classes(1, 1.0, n=(200, 800))) == pytest.approx(1, abs=0.04)
    assert spread(*real, *two_classes(2, 0.5)) == pytest.approx(0.25, abs=0.01)


def test_spread_weighs_classes_as_the_real_set_does():
    x, labels = two_classes(0, 1.0)
    wide = x.copy()
    wide[labels == "b"] = 50 + 3 * (wide[labels == "b"] - 50)
    assert spread(x, labels, wide, labels) == pytest.approx((799 + 9 * 199) / 998, rel=0.05)


def test_spread_leaves_out_single_profiles_and_needs_one_class():
    x, labels = two_classes(0, 1.0)
    only_a = labels == "a"
    assert spread(x, labels, x[only_a], labels[only_a]) == pytest.approx(1)
    with pytest.raises(ValueError, match="no class"):
        spread(x[only_a], labels[only_a], x[~only_a], labels[~only_a])


def test_the_scatter_within_classes_is_found_from_pairs_as_from_profiles():
    values, labels = draw(0, 90, 50).astype(np.float32), np.repeat(["a", "b", "c"], [60, 29, 1])
    pairs = Scatter.of_pairs(Pair.of(values[:40], values[40:]).squares(), labels)
    for found, expected in zip(pairs, Scatter.of(values, labels), strict=True):
        if found.dtype.kind == "f":
            np.testing.assert_allclose(found, expected, rtol=1e-5)
        else:
            assert found.tolist() == expected.tolist()
