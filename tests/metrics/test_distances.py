import tracemalloc

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from transcriptome_diffusion.metrics import distances
from transcriptome_diffusion.metrics.distances import (
    PrincipalAxes,
    class_mean_r2_of,
    frechet,
    kernel_tests,
    marginal_agreement,
    marginals,
)
from transcriptome_diffusion.metrics.neighbours import Pair


def draw(seed, n=80, genes=30, shift=0.0, scale=1.0):
    return np.random.default_rng(seed).normal(shift, scale, size=(n, genes)).astype(np.float32)


def frechet_by_roots(a, b):
    a, b = a.astype(float), b.astype(float)
    c1, c2 = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    root = scipy.linalg.sqrtm(c1 @ c2 + 1e-12 * np.eye(len(c1))).real
    return np.square(a.mean(axis=0) - b.mean(axis=0)).sum() + np.trace(c1 + c2 - 2 * root)


@pytest.mark.parametrize("sizes", [(80, 80), (80, 60), (200, 20), (12, 9)], ids=str)
@pytest.mark.parametrize("genes", [1, 30, 90])
def test_the_frechet_distance_is_that_of_matrix_roots(sizes, genes, monkeypatch):
    monkeypatch.setattr(distances, "BLOCK", 16)
    a, b = draw(0, sizes[0], genes), draw(1, sizes[1], genes, 0.4, 1.5)
    assert frechet(a, b) == pytest.approx(frechet_by_roots(a, b), rel=1e-4)


def test_the_frechet_distance_matches_the_closed_form_for_known_gaussians():
    rng = np.random.default_rng(0)
    a = rng.normal(0.0, [1.0, 2.0, 3.0], size=(50_000, 3))
    b = rng.normal([1.0, 0.0, 0.0], [1.0, 1.0, 3.0], size=(50_000, 3))
    assert frechet(a, b) == pytest.approx(2.0, rel=0.03)


def test_the_frechet_distance_of_a_set_to_itself_is_zero_and_shrinking_costs_its_square():
    a = draw(0, 40, 300)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    half = a.mean(axis=0) + 0.5 * (a - a.mean(axis=0))
    assert frechet(a, half) == pytest.approx(0.25 * a.var(axis=0, ddof=1, dtype=float).sum(), rel=1e-4)


def test_the_frechet_distance_needs_no_root_of_the_size_of_the_features():
    a, b = draw(0, 50, 20_000), draw(1, 50, 20_000)
    tracemalloc.start()
    try:
        frechet(a, b)
        assert tracemalloc.get_traced_memory()[1] < a.nbytes * 2  # 20,000 x 20,000 would be 3.2 GB
    finally:
        tracemalloc.stop()


def test_principal_axes_keep_the_leading_variance_and_all_of_it_if_asked():
    train = draw(0, 60, 40) * np.linspace(3, 0.1, 40, dtype=np.float32)
    leading = np.sort(np.linalg.eigvalsh(np.cov(train, rowvar=False)))[::-1]
    axes = PrincipalAxes.fit(train, 5)
    np.testing.assert_allclose(np.var(axes(train), axis=0, ddof=1), leading[:5], rtol=1e-3)
    np.testing.assert_allclose(axes(train).mean(axis=0), 0, atol=1e-5)
    fresh = draw(2, 60, 40, 0.5)
    whole = PrincipalAxes.fit(draw(3, 200, 40), 100)
    assert frechet(whole(train), whole(fresh)) == pytest.approx(frechet(train, fresh), rel=1e-4)
    assert PrincipalAxes.fit(train[:4], 5)(fresh).shape == (60, 3)


def mmd_by_definition(x, y):
    both = np.concatenate([x, y]).astype(float)
    squared = np.square(both[:, None] - both[None]).sum(axis=2)
    median = np.median(squared[np.triu_indices(len(both), 1)])
    n, m = len(x), len(y)
    found = []
    for pairs in (np.mean([np.exp(-squared / (2 * median * w**2)) for w in (0.5, 1, 2)], axis=0), -np.sqrt(squared)):
        own = [pairs[:n, :n].sum() - np.trace(pairs[:n, :n]), pairs[n:, n:].sum() - np.trace(pairs[n:, n:])]
        found.append(own[0] / (n * (n - 1)) + own[1] / (m * (m - 1)) - 2 * pairs[:n, n:].mean())
    return found


def test_mmd_and_energy_are_those_of_their_definitions():
    x, y = draw(0, 40), draw(1, 25, shift=0.3)
    found = kernel_tests(x, y, permutations=1)
    assert [found["mmd"], found["energy"]] == pytest.approx(mmd_by_definition(x, y), rel=1e-9)


def test_the_energy_distance_of_one_gene_is_that_of_scipy_up_to_its_bias():
    x, y = draw(0, 400, 1), draw(1, 400, 1, 1.0)
    # scipy gives the root of the biased one
    assert kernel_tests(x, y, permutations=1)["energy"] == pytest.approx(
        scipy.stats.energy_distance(x[:, 0], y[:, 0]) ** 2, abs=0.02
    )


def test_relabelling_gives_the_sums_of_relabelled_sets():
    rng = np.random.default_rng(0)
    pairs = rng.random((12, 12))
    pairs += pairs.T
    np.fill_diagonal(pairs, 0)
    labels = np.stack([rng.permutation(np.repeat([1.0, 0.0], [5, 7])) for _ in range(20)])
    for row, value in zip(labels.astype(bool), distances._between(pairs, labels), strict=True):
        inside, outside, across = pairs[row][:, row], pairs[~row][:, ~row], pairs[row][:, ~row]
        assert value == pytest.approx(inside.sum() / 20 + outside.sum() / 42 - 2 * across.mean())


@pytest.mark.parametrize("stratified", [False, True])
def test_p_values_are_uniform_under_the_null(stratified):
    labels = np.repeat([0, 1, 2], 10)
    centres = np.random.default_rng(9).normal(size=(3, 30)).astype(np.float32) * (1 if stratified else 0)
    found = [
        kernel_tests(
            draw(2 * i, 30) + centres[labels],
            draw(2 * i + 1, 30) + centres[labels],
            strata=(labels, labels) if stratified else None,
            permutations=99,
        )
        for i in range(150)
    ]
    for name in ("mmd_p", "energy_p"):
        assert scipy.stats.kstest([run[name] for run in found], "uniform").pvalue > 0.01, name
    assert np.mean([run["mmd"] for run in found]) == pytest.approx(0, abs=3e-4)
    assert np.mean([run["energy"] for run in found]) == pytest.approx(0, abs=8e-3)


def test_strata_sharpen_the_test_where_tissues_lie_far_apart():
    labels = np.repeat([0, 1, 2], 20)
    centres = 4 * np.random.default_rng(9).normal(size=(3, 30)).astype(np.float32)
    x, y = draw(0, 60) + centres[labels], draw(1, 60, shift=0.25) + centres[labels]
    within, across = kernel_tests(x, y, strata=(labels, labels)), kernel_tests(x, y)
    assert within["mmd_p"] == within["energy_p"] == 0.001
    assert across["mmd_p"] > 0.05


def test_large_sets_take_part_with_a_subset(monkeypatch):
    monkeypatch.setattr(distances, "MOST", 50)
    x, y = draw(0, 300), draw(1, 300, shift=0.5)
    labels = np.repeat([0, 1], 150)
    found = kernel_tests(x, y, strata=(labels, labels), permutations=99)
    assert found["mmd_p"] == 0.01
    assert found == kernel_tests(x, y, strata=(labels, labels), permutations=99)


def test_the_wasserstein_distance_is_that_of_scipy(monkeypatch):
    monkeypatch.setattr(distances, "BLOCK", 4)
    for n, m in ((30, 30), (30, 17), (5, 100)):
        x, y = draw(0, n, 10), draw(1, m, 10, 0.3, 2.0)
        expected = [scipy.stats.wasserstein_distance(x[:, g], y[:, g]) for g in range(10)]
        found = marginals(x, y)
        np.testing.assert_allclose(found["wasserstein"], expected, rtol=1e-6)
        np.testing.assert_allclose(found["sd_synthetic"], y.std(axis=0, ddof=1), rtol=1e-5)
        np.testing.assert_allclose(found["mean_real"], x.mean(axis=0), atol=1e-6)


def test_marginals_of_shifted_and_scaled_genes_have_closed_forms():
    x = draw(0, 500, 20)
    labels = np.repeat(["a", "b"], 250)
    shifted = marginal_agreement(x, labels, x + np.float32(0.5), labels)
    assert shifted["wasserstein"] == pytest.approx(0.5, abs=1e-5)
    assert shifted["mean_error"] == pytest.approx(0.5, abs=1e-5)
    assert shifted["sd_ratio"] == pytest.approx(1, abs=1e-5)
    shrunk = marginal_agreement(x, labels, x * np.float32(0.5), labels)
    assert shrunk["sd_ratio"] == pytest.approx(0.5, rel=1e-5)
    assert shrunk["sd_error"] == pytest.approx(1, rel=1e-5)
    assert shrunk["wasserstein"] == pytest.approx(0.5 * np.sqrt(2 / np.pi), rel=0.05)


def test_marginals_reach_their_null():
    n = 100
    found = np.mean([marginals(draw(2 * i, n), draw(2 * i + 1, n))["wasserstein"].mean() for i in range(20)])
    # E ∫ |F - G|: ∫ √(2/π) √(2 Φ (1 - Φ) / n) dx
    grid = scipy.stats.norm.cdf(np.linspace(-8, 8, 4001))
    assert found == pytest.approx(np.sqrt(4 / (np.pi * n)) * np.sqrt(grid * (1 - grid)).sum() * 0.004, rel=0.03)


def test_class_means_score_one_for_the_same_zero_for_the_average_and_nothing_for_one_class():
    labels = np.repeat(["a", "b", "c"], 40)
    centres = np.random.default_rng(0).normal(size=(3, 30)).astype(np.float32)[np.repeat([0, 1, 2], 40)]
    x = draw(1, 120) * np.float32(0.1) + centres
    assert marginal_agreement(x, labels, x, labels)["class_mean_r2"] == 1
    average = np.broadcast_to(x.mean(axis=0), x.shape)
    assert marginal_agreement(x, labels, average, labels)["class_mean_r2"] == pytest.approx(0, abs=1e-3)
    assert marginal_agreement(x, labels, x, np.roll(labels, 40))["class_mean_r2"] < 0
    assert np.isnan(marginal_agreement(x, np.full(120, "a"), x, labels)["class_mean_r2"])


def test_class_means_are_compared_by_distances_as_by_genes():
    labels, others = np.repeat(["a", "b", "c"], [50, 40, 30]), np.repeat(["b", "a", "d"], [30, 20, 10])
    centres = {name: np.random.default_rng(i).normal(size=30) for i, name in enumerate("abcd")}
    x, y = (
        draw(i, len(names)) + np.stack([centres[name] for name in names]).astype(np.float32)
        for i, names in ((0, labels), (1, others))
    )
    expected = marginal_agreement(x, labels, y, others)["class_mean_r2"]
    assert 0.5 < expected < 0.99
    assert class_mean_r2_of(Pair.of(x, y), (labels, others)) == pytest.approx(expected, abs=1e-5)
    assert np.isnan(class_mean_r2_of(Pair.of(x, y), (labels, np.full(60, "a"))))


def test_a_gene_constant_among_real_profiles_is_left_out_of_the_ratio():
    x = draw(0)
    x[:, 0] = 1.0
    labels = np.zeros(80)
    found = marginal_agreement(x, labels, draw(0), labels)
    assert found["sd_ratio"] == pytest.approx(1, abs=1e-5)
    assert np.isfinite(found["sd_error"])
    dead = marginal_agreement(x, labels, np.zeros_like(x), labels)
    assert dead["sd_error"] == pytest.approx(np.log2(1e3))


@pytest.mark.parametrize("function", [frechet, marginals, kernel_tests])
def test_what_cannot_be_compared_is_refused(function):
    with pytest.raises(ValueError, match="equal width"):
        function(draw(0), draw(0)[:, :4])
    with pytest.raises(ValueError, match="2 or more profiles"):
        function(draw(0), draw(0)[:1])
    spoilt = draw(0)
    spoilt[3, 3] = np.nan
    with pytest.raises(ValueError, match="finite"):
        function(draw(1), spoilt)


def test_kernel_tests_of_single_precision_profiles_are_those_of_double_ones_copies_included():
    real, fresh = (draw(seed, 80, 50).astype(np.float32) for seed in (0, 1))
    for synthetic in (fresh, np.concatenate([real[:40], fresh[:40]])):
        single = kernel_tests(real, synthetic, permutations=99)
        double = kernel_tests(real.astype(float), synthetic.astype(float), permutations=99)
        assert single == pytest.approx(double, rel=1e-4, abs=1e-6)
