"""The marginal map: closed forms, the pipeline around it, and what it must not do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.artefacts import ArtefactError, read_description, read_tensors, write_model
from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.generators import marginal_map
from transcriptome_diffusion.generators.class_gaussian import ClassGaussian
from transcriptome_diffusion.generators.marginal_map import MarginalMap, draws_for, quantiles
from transcriptome_diffusion.generators.options import ClassGaussianOptions


def cohort(values, name="s"):
    n, genes = values.shape
    obs = pd.DataFrame({"tissue": ["liver", "lung"] * (n // 2)}, index=[f"{name}{i}" for i in range(n)])
    names = [f"g{i}" for i in range(genes)]
    return make_profiles(values, obs, pd.DataFrame({"symbol": names}, index=names), "log2(FPKM + 1)")


def skewed(n=400, seed=0):
    """A lognormal gene, one that is zero in a third of the profiles, and a normal one; the first two correlate."""
    rng = np.random.default_rng(seed)
    shared, own = rng.normal(size=n), rng.normal(size=(n, 3))
    first = np.exp(0.8 * shared + 0.6 * own[:, 0])
    second = np.where(shared + 0.2 * own[:, 1] < -0.43, 0.0, 3 + shared)
    return np.stack([first, second, 8 + own[:, 2]], axis=1).astype(np.float32)


@pytest.mark.parametrize("count", [7, 40, 100])
def test_quantiles_are_those_of_numpy(count):
    values = np.random.default_rng(0).normal(size=(100, 3))
    expected = np.quantile(values, (np.arange(count) + 0.5) / count, axis=0, method="hazen")
    np.testing.assert_allclose(quantiles(values, count), expected, atol=1e-12)
    if count == 100:
        np.testing.assert_array_equal(quantiles(values, count), np.sort(values, axis=0))


def test_a_known_pair_of_distributions_gives_the_function_between_them():
    """Uniform draws onto their squares: x -> x^2 inside, slope 1 beyond the ends."""
    grid = ((np.arange(1000) + 0.5) / 1000)[:, None].astype(np.float32)
    fitted = MarginalMap.fit(np.repeat(grid, 8, axis=0), np.square(grid))
    np.testing.assert_allclose(fitted(np.array([[0.1], [0.5], [0.9]])).ravel(), [0.01, 0.25, 0.81], atol=2e-3)
    beyond = fitted(np.array([[-2.0], [grid[0, 0] - 1], [grid[-1, 0] + 3]]))
    np.testing.assert_allclose(beyond.ravel(), [-2.0, grid[0, 0] ** 2 - 1, grid[-1, 0] ** 2 + 3], atol=1e-3)


def test_it_keeps_the_order_of_profiles_within_every_gene():
    rng = np.random.default_rng(1)
    fitted = MarginalMap.fit(rng.normal(size=(800, 3)), skewed(100))
    values = np.sort(rng.normal(size=(300, 3)), axis=0)
    assert (np.diff(fitted(values), axis=0) >= 0).all()


def test_new_draws_get_the_training_distribution_and_the_zeros():
    train = skewed()
    without, with_map = (
        ClassGaussian.fit(cohort(train), cohort(train), ClassGaussianOptions(marginal_map=on)) for on in (False, True)
    )
    plain, mapped = (model.sample({"liver": 5000, "lung": 5000}, seed=3).X for model in (without, with_map))
    grid = np.linspace(0.01, 0.99, 99)
    real = np.quantile(train, grid, axis=0)
    far, near = (np.abs(np.quantile(part, grid, axis=0) - real).mean(axis=0) for part in (plain, mapped))
    assert (near[:2] < 0.3 * far[:2]).all()
    assert (plain < 0).any()
    assert mapped.min() == 0
    assert (mapped[:, 1] == 0).mean() == pytest.approx((train[:, 1] == 0).mean(), abs=0.02)
    assert with_map.lower_bound == 0
    assert without.lower_bound is None


def test_a_batch_does_not_repeat_the_values_of_the_training_profiles():
    """Ranking a batch against the training sample would: its marginals would then be exactly those of that sample."""
    train = skewed()
    drawn = ClassGaussian.fit(cohort(train), cohort(train), ClassGaussianOptions()).sample(cohort(train).obs, 1).X
    assert np.isin(drawn[:, 2], train[:, 2]).mean() < 0.05
    assert np.abs(np.sort(drawn[:, 2]) - np.sort(train[:, 2])).max() > 0.05


def test_it_is_saved_with_the_model_and_missed_when_it_is_not_there(tmp_path):
    model = ClassGaussian.fit(cohort(skewed()), cohort(skewed()), ClassGaussianOptions())
    model.save(tmp_path / "model")
    loaded = ClassGaussian.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.sample(None, seed=1).X, model.sample(None, seed=1).X)
    tensors = read_tensors(tmp_path / "model")
    del tensors["marginal_map.real"]
    write_model(tmp_path / "broken", read_description(tmp_path / "model"), tensors)
    with pytest.raises(ArtefactError, match="do not fit"):
        ClassGaussian.load(tmp_path / "broken")


def test_draws_and_knots_are_bounded(monkeypatch):
    assert draws_for(600, 1000) == 4800
    assert draws_for(50_000, 1000) == 16_000
    assert draws_for(10_000, 20_000) == 5000
    assert draws_for(50, 10**8) == 50
    monkeypatch.setattr(marginal_map, "MOST_KNOTS", 50)
    model = ClassGaussian.fit(cohort(skewed()), cohort(skewed()), ClassGaussianOptions())
    assert model.marginal_map.real.shape == model.marginal_map.drawn.shape == (50, 3)


def test_a_constant_gene_stays_constant():
    train = skewed()
    train[:, 2] = 4.0
    drawn = ClassGaussian.fit(cohort(train), cohort(train), ClassGaussianOptions()).sample(None, seed=1).X
    np.testing.assert_allclose(drawn[:, 2], 4.0, atol=1e-5)
