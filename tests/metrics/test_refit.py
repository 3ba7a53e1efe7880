"""The known population behind the row refit, and what estimation from few and many profiles costs."""

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from populations import CENTRES, draw
from transcriptome_diffusion.metrics.options import EvaluationOptions
from transcriptome_diffusion.metrics.profile_set import ProfileSet
from transcriptome_diffusion.metrics.reference import SpaceReference
from transcriptome_diffusion.metrics.refit import HierarchicalGaussian, score_refit


def profiles(n, genes, seed=0, conditions=True):
    rng = np.random.default_rng(seed)
    labels = np.repeat(["a", "b"], [n - n // 3, n // 3])
    values = (
        rng.normal(size=(n, 3)) @ rng.normal(size=(3, genes)) + rng.normal(size=(n, genes)) + (labels == "a")[:, None]
    )
    kinds = np.where(np.arange(n) % 2, "tumor", "normal") if conditions else None
    return ProfileSet(values.astype(np.float32), labels, conditions=kinds)


@pytest.mark.parametrize("genes", [20, 90])
def test_drawn_profiles_have_the_means_and_the_covariance_of_ledoit_and_wolf(genes):
    train = profiles(60, genes, conditions=False)
    model = HierarchicalGaussian.fit(train)
    residuals = train.values - np.stack([train.values[train.labels == label].mean(axis=0) for label in train.labels])
    residuals *= np.sqrt(60 / 58)
    scale = residuals.std(axis=0)
    covariance, _ = ledoit_wolf(residuals / scale, assume_centered=True)
    found = model.factor.T @ model.factor + model.noise**2 * np.eye(genes)
    np.testing.assert_allclose(found, covariance, atol=1e-4)
    many = ProfileSet(None, np.repeat("b", 20_000))
    drawn = model.draw(many, np.random.default_rng(1)).values
    np.testing.assert_allclose(drawn.mean(axis=0), train.values[train.labels == "b"].mean(axis=0), atol=0.06)
    np.testing.assert_allclose(np.cov((drawn / scale).T), covariance, atol=0.06)


def test_conditions_have_means_of_their_own_and_unknown_ones_that_of_their_class():
    train = profiles(40, 5)
    model = HierarchicalGaussian.fit(train)
    assert set(model.means) == {"a", "b", "a | normal", "a | tumor", "b | normal", "b | tumor"}
    like = ProfileSet(None, np.repeat("a", 4000), conditions=np.repeat(["tumor", "metastasis"], 2000))
    drawn = model.draw(like, np.random.default_rng(0)).values
    np.testing.assert_allclose(drawn[:2000].mean(axis=0), model.means["a | tumor"], atol=0.2)
    np.testing.assert_allclose(drawn[2000:].mean(axis=0), model.means["a"], atol=0.2)


OPTIONS = EvaluationOptions(
    neighbours={"landmarks": 5, "transcriptome": 5}, classifier={"hidden": [8], "epochs": 1}, components=5, folds=3
)


@pytest.fixture(scope="module")
def limits():
    """The row of a cohort of few donors and of many."""
    rows = {}
    for each in (20, 200):
        sizes = {"train": each, "validation": 5, "test": 20}
        parts = {split: draw(dict.fromkeys(CENTRES, size), i) for i, (split, size) in enumerate(sizes.items())}
        table = score_refit(SpaceReference.fit(parts, {}, OPTIONS), OPTIONS)
        rows[each] = table.groupby("metric")["value"].mean()
    return rows


def test_estimation_error_shows_with_few_donors_and_vanishes_with_many(limits):
    few, many = limits[20], limits[200]
    assert few["adversarial_accuracy"] > many["adversarial_accuracy"] + 0.02
    assert many["adversarial_accuracy"] == pytest.approx(0.49, abs=0.05)
    assert few["within_class_correlation"] < many["within_class_correlation"]
    assert many["spread"] == pytest.approx(1, abs=0.06)
    assert many["two_sample_boosted"] == pytest.approx(0.5, abs=0.12)


def test_the_row_has_the_metrics_that_it_promises(limits):
    assert {"adversarial_accuracy_real", "adversarial_accuracy_synthetic", "two_sample_boosted"} <= set(
        limits[20].index
    )
    assert "accuracy_mlp" not in limits[20].index
