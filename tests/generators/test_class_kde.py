import logging

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal
from sklearn.neighbors import KernelDensity

from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.generators.class_kde import ClassKDE, kernel_log_densities
from transcriptome_diffusion.generators.options import ClassKDEOptions


def cohort(values, seed, tissue="liver"):
    obs = pd.DataFrame({"tissue": tissue}, index=[f"s{seed}-{i}" for i in range(len(values))])
    var = pd.DataFrame(index=[f"g{i}" for i in range(values.shape[1])])
    return make_profiles(values, obs, var, "log2(FPKM + 1)")


def two_modes(n, seed, genes=6):
    """A class that is no Gaussian: two far groups."""
    rng = np.random.default_rng(seed)
    return 5 + np.where(rng.random((n, 1)) < 0.5, -2.0, 2.0) + 0.3 * rng.normal(size=(n, genes))


def labels(n):
    return pd.DataFrame({"tissue": ["liver"] * n}, index=range(n))


def test_isotropic_kernels_give_the_log_density_of_scikit_learn():
    rng = np.random.default_rng(0)
    points, centres = rng.normal(size=(20, 5)), rng.normal(size=(30, 5))
    bandwidths = [0.2, 0.5, 1.3]
    ours = kernel_log_densities(points, centres, np.zeros((30, 5)), 4.0, bandwidths)
    for h, densities in zip(bandwidths, ours, strict=True):
        reference = KernelDensity(bandwidth=2 * h).fit(centres).score_samples(points)
        np.testing.assert_allclose(densities, reference)


def test_kernels_with_fewer_profiles_than_genes_give_the_density_of_the_full_covariance():
    rng = np.random.default_rng(1)
    basis, points = rng.normal(size=(4, 12)), rng.normal(size=(9, 12))
    centres = rng.normal(size=(6, 4)) @ basis
    ours = kernel_log_densities(points, centres, basis, 0.3, [0.7])[0]
    covariance = 0.49 * (basis.T @ basis + 0.3 * np.eye(12))
    expected = np.log(np.mean([multivariate_normal(c, covariance).pdf(points) for c in centres], axis=0))
    np.testing.assert_allclose(ours, expected)


@pytest.mark.parametrize("bandwidth", [0.1, 0.7, 3.0])
def test_mean_and_variance_within_the_class_do_not_depend_on_the_bandwidth(bandwidth):
    values = two_modes(80, 0)
    train = cohort(values, 0)
    model = ClassKDE.fit(train, train, ClassKDEOptions(marginal_map=False, bandwidths=[bandwidth]))
    drawn = model.sample(labels(50_000), seed=1).X.astype(np.float64)
    np.testing.assert_allclose(drawn.mean(axis=0), values.mean(axis=0), atol=0.05)
    np.testing.assert_allclose(drawn.var(axis=0), values.var(axis=0), rtol=0.03)


def test_the_groups_within_a_class_survive_a_small_bandwidth_only():
    train = cohort(two_modes(100, 0), 0)

    def between(bandwidth):
        model = ClassKDE.fit(train, train, ClassKDEOptions(marginal_map=False, bandwidths=[bandwidth]))
        drawn = model.sample(labels(2000), seed=1).X.mean(axis=1)
        return (np.abs(drawn - 5) < 0.7).mean()

    assert between(0.1) < 0.01
    assert between(3.0) > 0.15


def test_a_bandwidth_near_zero_gives_back_training_profiles():
    values = two_modes(40, 0).astype(np.float32)
    model = ClassKDE.fit(cohort(values, 0), cohort(values, 1), ClassKDEOptions(marginal_map=False, bandwidths=[1e-4]))
    drawn = model.sample(labels(100), seed=0).X
    nearest = np.abs(drawn[:, None] - values[None]).max(axis=2).min(axis=1)
    assert nearest.max() < 1e-2


def test_the_bandwidth_is_that_of_the_validation_profiles():
    """Two modes call for narrower kernels than one, and more profiles for narrower ones than few."""
    grid = [round(0.05 * 1.25**i, 3) for i in range(18)]

    def chosen(draw, n):
        options = ClassKDEOptions(marginal_map=False, bandwidths=grid)
        return ClassKDE.fit(cohort(draw(n, 0), 0), cohort(draw(300, 1), 1), options).bandwidth

    def one_mode(n, seed):
        return np.random.default_rng(seed).normal(5, 1, size=(n, 6))

    found = [chosen(draw, n) for draw, n in ((two_modes, 1000), (one_mode, 1000), (one_mode, 20))]
    assert grid[0] < found[0] < found[1] < found[2] < grid[-1]


def test_the_choice_is_recorded_and_a_grid_that_is_too_short_is_reported(caplog):
    rng = np.random.default_rng(5)
    train, validation = (cohort(rng.normal(5, 1, size=(60, 6)), seed) for seed in (0, 1))
    with caplog.at_level(logging.WARNING):
        model = ClassKDE.fit(train, validation, ClassKDEOptions(marginal_map=False, bandwidths=[0.05, 0.1]))
    assert "extend the list" in caplog.text
    densities = dict(model.record["validation_log_density_per_gene"])
    assert model.record["bandwidth"] == max(densities, key=densities.get) == 0.1


def test_the_bandwidth_survives_the_disk(tmp_path):
    train = cohort(two_modes(50, 0), 0)
    model = ClassKDE.fit(train, train, ClassKDEOptions(marginal_map=False, bandwidths=[0.3]))
    model.save(tmp_path / "kde")
    np.testing.assert_array_equal(
        ClassKDE.load(tmp_path / "kde").sample(labels(9), seed=2).X, model.sample(labels(9), seed=2).X
    )


def test_the_batch_size_changes_nothing_but_memory():
    train = cohort(two_modes(50, 0), 0)
    model = ClassKDE.fit(train, train, ClassKDEOptions(marginal_map=False, bandwidths=[0.3]))
    whole, parts = (model.sample(labels(50), seed=3, batch_size=b).X for b in (1000, 7))
    np.testing.assert_allclose(whole, parts, rtol=1e-5)


def test_validation_profiles_of_a_combination_that_training_lacks_are_left_out_of_the_choice():
    def two_conditions(seed, sex):
        profiles = cohort(two_modes(len(sex), seed), seed)
        profiles.obs["tissue"], profiles.obs["sex"] = ["liver"] * (len(sex) - 1) + ["lung"], sex
        return profiles

    train = two_conditions(0, ["f", "m"] * 30 + ["f"])  # of lung, women alone
    seen, mixed = two_conditions(1, ["f", "m"] * 10 + ["f"]), two_conditions(1, ["f", "m"] * 10 + ["m"])
    options = ClassKDEOptions(conditions=["tissue", "sex"], bandwidths=[0.2, 0.5, 0.9], marginal_map=False)
    model = ClassKDE.fit(train, seen, options)
    without = ClassKDE.fit(train, mixed, options)
    alone = ClassKDE.fit(train, mixed[:-1].copy(), options)
    key = "validation_log_density_per_gene"
    assert without.record[key] == alone.record[key] != model.record[key]
    with pytest.raises(ValueError, match="none of 1 has a combination of"):
        ClassKDE.fit(train, mixed[-1:].copy(), options)
