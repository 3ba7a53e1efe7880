import numpy as np
import pytest

from transcriptome_diffusion.metrics.copying import copying, spread


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
