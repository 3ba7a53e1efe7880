import tracemalloc

import numpy as np
import pytest

from transcriptome_diffusion.metrics import correlation
from transcriptome_diffusion.metrics.correlation import Correlations, correlation_score, within_class_correlation


def modules(n, genes, seed, factors=4):
    """Profiles with correlated genes: the loadings are the same for every seed."""
    loadings = np.random.default_rng(99).normal(size=(factors, genes))
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, factors)) @ loadings + 2 * rng.normal(size=(n, genes)) + 7


def by_definition(real, synthetic):
    upper = np.triu_indices(real.shape[1], 1)
    with np.errstate(invalid="ignore"):
        a, b = (np.nan_to_num(np.corrcoef(x, rowvar=False))[upper] for x in (real, synthetic))
    return np.corrcoef(a, b)[0, 1]


@pytest.mark.parametrize("n", [(20, 20), (20, 35), (200, 200), (200, 20)])
def test_the_score_is_that_of_the_two_correlation_matrices(n, monkeypatch):
    monkeypatch.setattr(correlation, "BLOCK", 16)
    real, synthetic = modules(n[0], 60, 0), modules(n[1], 60, 1)
    assert correlation_score(real, synthetic) == pytest.approx(by_definition(real, synthetic), abs=1e-12)


def test_eighteen_thousand_genes_lose_no_digits():
    """Sums over 1.6e8 pairs, against sums over blocks of the correlation matrices themselves."""
    real = modules(120, 18_000, 0).astype(np.float32)
    synthetic = modules(100, 18_000, 1).astype(np.float32)
    a, b = (Correlations(side.astype(np.float64)).units for side in (real, synthetic))
    sample = slice(0, 1500)
    # an exact reference at full size costs minutes; the scores of a part and of the whole agree by both ways
    assert correlation_score(real[:, sample], synthetic[:, sample]) == pytest.approx(
        by_definition(real[:, sample].astype(float), synthetic[:, sample].astype(float)), abs=1e-6
    )
    x, y = a[:, :300].T @ a, b[:, :300].T @ b
    mask = np.arange(18_000) != np.arange(300)[:, None]
    estimate = np.corrcoef(x[mask], y[mask])[0, 1]
    assert correlation_score(real, synthetic) == pytest.approx(estimate, abs=0.01)


def test_both_ways_to_sum_agree():
    a, b = (modules(n, 80, n) for n in (30, 50))
    a, b = (Correlations(values).units for values in (a, b))
    for x, y in ((a, a), (b, b), (a, b)):
        in_samples = correlation._sum_of_products(x, y.T)
        assert correlation._sum_of_products(x.T, x, y.T, y) == pytest.approx(in_samples, rel=1e-12)


@pytest.mark.parametrize("n", [60, 900], ids=["fewer profiles than genes", "more"])
def test_single_precision_of_the_profiles_costs_less_than_a_hundred_thousandth(n):
    real, synthetic = (modules(n, 700, seed).astype(np.float32) + 1000 for seed in range(2))
    labels = np.arange(n) % 3
    doubles = real.astype(float), synthetic.astype(float)
    assert correlation_score(real, synthetic) == pytest.approx(correlation_score(*doubles), abs=1e-5)
    found, expected = (within_class_correlation(a, labels, b, labels) for a, b in ((real, synthetic), doubles))
    assert found == pytest.approx(expected, abs=1e-5)


def test_the_same_profiles_score_one_whatever_the_scale_and_shift_of_genes():
    real = modules(50, 40, 0)
    rng = np.random.default_rng(5)
    moved = real * rng.uniform(0.1, 9, 40) + rng.normal(0, 100, 40)
    assert correlation_score(real, moved) == pytest.approx(1)


def test_unrelated_structure_scores_zero_and_the_null_rises_with_the_number_of_profiles():
    rng = np.random.default_rng(3)
    independent = [correlation_score(modules(60, 200, i), rng.normal(size=(60, 200))) for i in range(5)]
    assert np.mean(independent) == pytest.approx(0, abs=0.03)
    few, many = (correlation_score(modules(n, 200, 1), modules(n, 200, 2)) for n in (15, 400))
    assert few < many < 1
    assert many > 0.95


def test_a_gene_constant_in_one_set_counts_as_uncorrelated_and_in_both_not_at_all():
    real, synthetic = modules(40, 30, 0), modules(40, 30, 1)
    before = correlation_score(real, synthetic)
    constant = np.full((40, 5), 0.1)
    assert correlation_score(np.hstack([real, constant]), np.hstack([synthetic, constant])) == pytest.approx(before)
    dead = synthetic.copy()
    dead[:, :10] = 0  # numpy itself finds 0.1 not quite constant
    assert correlation_score(real, dead) == pytest.approx(by_definition(real, dead), abs=1e-12)
    assert correlation_score(real, dead) < before


def test_what_cannot_be_compared_is_refused():
    real = modules(40, 30, 0)
    with pytest.raises(ValueError, match="equal width"):
        correlation_score(real, real[:, :4])
    with pytest.raises(ValueError, match="3 or more samples"):
        correlation_score(real, real[:2])
    with pytest.raises(ValueError, match="3 or more genes"):
        correlation_score(real[:, :2], real[:, :2])
    with pytest.raises(ValueError, match="genes that vary"):
        correlation_score(real, np.zeros_like(real))


def peak_memory(n, genes):
    real, synthetic = (np.random.default_rng(i).normal(size=(n, genes)).astype(np.float32) for i in range(2))
    tracemalloc.start()
    try:
        correlation_score(real, synthetic)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_the_profiles_once_more_and_products_of_samples_never_genes_by_genes():
    """Nor float64 copies of the profiles, which would be twice the bound."""
    n, genes = 300, 18_000
    copies, products = 2 * n * genes * 4, n * n * 8
    assert peak_memory(n, genes) < copies + 3 * products + genes * 64 < 1.2 * copies


def test_memory_with_more_samples_than_genes_is_a_few_copies():
    n, genes = 1150, 1100
    assert peak_memory(n, genes) < 6 * n * genes * 8


def tissues(n, seed, genes=120):
    """Modules within four tissues whose means differ strongly."""
    labels = np.arange(n) % 4
    return modules(n, genes, seed) + 20 * np.random.default_rng(98).normal(size=(4, genes))[labels], labels


def test_within_classes_the_score_is_that_of_profiles_around_their_class_means():
    (real, labels), (synthetic, others) = tissues(60, 0), tissues(80, 1)

    def around(values, of):
        return np.concatenate([values[of == c] - values[of == c].mean(axis=0) for c in range(4)])

    expected = by_definition(around(real, labels), around(synthetic, others))
    assert within_class_correlation(real, labels, synthetic, others) == pytest.approx(expected, abs=1e-12)


def test_within_classes_a_generator_that_knows_only_the_means_is_seen_through():
    (real, labels), means = tissues(200, 0), tissues(200, 1)[0] - modules(200, 120, 1)
    independent = means + 4 * np.random.default_rng(2).normal(size=means.shape)
    assert correlation_score(real, independent) > 0.9
    assert within_class_correlation(real, labels, independent, labels) == pytest.approx(0, abs=0.05)
    assert within_class_correlation(real, labels, *tissues(200, 1)) > 0.9


def test_single_profiles_of_a_class_and_classes_of_one_side_are_left_out():
    (real, labels), (synthetic, others) = tissues(60, 0), tissues(60, 1)
    expected = within_class_correlation(real, labels, synthetic, others)
    extra = 1e3 * np.ones((5, 120)) * np.arange(5)[:, None]
    more, names = np.concatenate([real, extra]), np.concatenate([labels, [7, 8, 8, 8, 8]])
    assert within_class_correlation(more, names, synthetic, others) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="3 or more samples"):
        within_class_correlation(real, labels, synthetic, others + 10)
