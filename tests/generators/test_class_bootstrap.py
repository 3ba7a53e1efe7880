"""The bootstrap of sub-classes: closed forms of its parts, its variance, and that it copies nobody."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist

from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.generators.class_bootstrap import (
    ClassBootstrap,
    distinct,
    nearest_other_donor,
    shrunken_means,
    shrunken_variances,
)
from transcriptome_diffusion.generators.options import ClassBootstrapOptions

GENES = 40


def cohort(n=240, seed=0, shift=0.0):
    """Two tissues, of which the first has two studies ``shift`` apart in half of the genes; two profiles a donor."""
    rng = np.random.default_rng(seed)
    tissue = np.repeat(["liver", "lung"], [2 * n // 3, n - 2 * n // 3])
    study = np.where(np.arange(n) % 2, "a", "b")
    study[tissue == "lung"] = "a"
    loadings = np.random.default_rng(99).normal(size=(5, GENES))
    values = 8 + rng.normal(size=(n, 5)) @ loadings * 0.5 + rng.normal(size=(n, GENES))
    values += 3.0 * (tissue == "lung")[:, None] + shift * (study == "b")[:, None] * (np.arange(GENES) < GENES // 2)
    obs = pd.DataFrame(
        {"tissue": tissue, "study": study, "donor": [f"d{i // 2}" for i in range(n)]},
        index=[f"s{seed}-{i}" for i in range(n)],
    )
    names = [f"g{i}" for i in range(GENES)]
    return make_profiles(values, obs, pd.DataFrame({"symbol": names}, index=names), "log2(FPKM + 1)")


def fitted(train=None, **options):
    train = cohort() if train is None else train
    return ClassBootstrap.fit(train, cohort(60, seed=1), ClassBootstrapOptions(**options))


def test_means_are_shrunk_by_the_share_of_variance_between_sub_classes():
    """Equal sizes, one class: tau^2 is the variance of the means less s^2 / n, as in an analysis of variance."""
    means = np.array([[1.0, 0.0], [2.0, 0.1], [6.0, -0.1]])
    variance = np.array([2.0, 2.0])
    found = shrunken_means(means, np.full(3, 5), np.zeros(3, dtype=int), variance)
    tau2 = means[:, 0].var(ddof=1) - 2 / 5
    np.testing.assert_allclose(found[:, 0], 3 + tau2 / (tau2 + 2 / 5) * (means[:, 0] - 3))
    np.testing.assert_allclose(found[:, 1], 0, atol=1e-12)  # less scatter than chance: the mean of the class


def test_classes_without_sub_classes_keep_their_means():
    means = np.random.default_rng(0).normal(size=(3, 4))
    np.testing.assert_allclose(shrunken_means(means, np.array([4, 9, 2]), np.arange(3), np.ones(4)), means)


@pytest.mark.parametrize("prior", [4.0, 30.0])
def test_variances_are_shrunk_as_by_limma(prior):
    """Variances s0^2 d0 / chi2(d0) seen with 6 degrees of freedom: the weights of the prior are recovered."""
    rng = np.random.default_rng(0)
    true = 1.5 * prior / rng.chisquare(prior, 20_000)
    ratio = true * rng.chisquare(6, len(true)) / 6
    found = shrunken_variances(ratio, 6)
    np.testing.assert_allclose(found, (prior * 1.5 + 6 * ratio) / (prior + 6), rtol=0.1)
    assert np.square(np.log(found / true)).mean() < 0.7 * np.square(np.log(ratio / true)).mean()


def test_equal_variances_become_one_value_and_a_single_profile_has_that_of_all():
    ratio = 2.0 * np.random.default_rng(0).chisquare(9, 5000) / 9
    found = shrunken_variances(ratio, 9)
    np.testing.assert_allclose(found, 2.0, rtol=0.15)
    np.testing.assert_array_equal(shrunken_variances(np.zeros(5), 0), np.ones(5))


def test_mixed_profiles_differ_and_all_are_equally_likely():
    sizes = np.full(30_000, 5)
    found = distinct(sizes, np.random.default_rng(0).random((30_000, 3)))
    assert (np.diff(np.sort(found, axis=1), axis=1) > 0).all()
    for column in found.T:
        np.testing.assert_allclose(np.bincount(column, minlength=5) / 30_000, 0.2, atol=0.01)
    assert set(distinct(np.array([2]), np.full((1, 3), 0.6)).ravel()) <= {0, 1}


def test_the_limit_looks_at_other_donors_alone():
    values, donors = np.array([[0.0], [0.1], [1.0], [5.0]]), np.array(["a", "a", "b", "c"])
    np.testing.assert_allclose(nearest_other_donor(values, donors, np.arange(4)), [1.0, 0.9, 0.9, 4.0])


def test_mean_and_variance_within_a_sub_class_are_those_of_the_profiles():
    train = cohort(shift=9.0)
    drawn = fitted(train, marginal_map=False, redraw_percentile=0).sample({"liver": 8000}, seed=3).X
    liver = train.obs["tissue"].to_numpy() == "liver"
    for study, drawn_of in zip("ab", (drawn[:, 0] < 12.5, drawn[:, 0] >= 12.5), strict=True):
        real = train.X[liver & (train.obs["study"] == study).to_numpy()]
        assert drawn_of.mean() == pytest.approx(0.5, abs=0.05)
        # half of the genes do not differ between studies: their means are shrunk
        np.testing.assert_allclose(drawn[drawn_of].mean(axis=0)[:20], real.mean(axis=0)[:20], atol=0.1)
    assert drawn.var(axis=0).mean() == pytest.approx(train.X[liver].var(axis=0).mean(), rel=0.1)


def test_the_share_of_mixtures_does_not_change_the_variance():
    """Spectrum and noise are those of held-out donors, whatever the share."""
    train = cohort()
    whole, none = (
        fitted(train, share_leading=share, share_other=share, marginal_map=False, redraw_percentile=0)
        .sample({"liver": 6000, "lung": 3000}, seed=1)
        .X.var(axis=0)
        for share in (1.0, 0.0)
    )
    np.testing.assert_allclose(whole, none, rtol=0.12)


def test_no_profile_is_nearer_to_a_training_profile_than_the_limit():
    train = cohort()
    usual = fitted(train, redraw_percentile=0)
    strict = fitted(train, redraw_percentile=2)
    near = []
    for model in (usual, strict):
        drawn = (model.sample(train.obs, seed=2).X - model.gene_mean) / model.gene_scale
        near.append((cdist(drawn, model.train).min(axis=1) < 0.999 * strict.limit).mean())
    assert near[1] == 0 < near[0]


def test_columns_that_a_cohort_lacks_divide_nothing():
    train = cohort()
    assert fitted(train).record["subclasses"] == 3
    del train.obs["study"]
    assert fitted(train).record["subclasses"] == 2


def test_the_batch_size_changes_nothing_but_memory():
    model = fitted()
    whole, parts = (model.sample(cohort().obs, seed=3, batch_size=b).X for b in (1000, 7))
    np.testing.assert_allclose(whole, parts, rtol=1e-4)
