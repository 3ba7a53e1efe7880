import numpy as np
import pytest
import scipy.stats

from transcriptome_diffusion.metrics import neighbours
from transcriptome_diffusion.metrics.fidelity import fidelity, fidelity_by_class, support


def draw(seed, scale=1.0, n=400, genes=20, shift=0.0):
    return np.random.default_rng(seed).normal(shift, scale, size=(n, genes))


def mean_of(runs):
    return {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}


def integrated(curve):
    levels = np.linspace(0, 1, 2001)
    return 1 - 2 * np.trapezoid(np.abs(curve(levels) - levels), levels)


@pytest.mark.parametrize("scale", [0.8, 1.2])
def test_alpha_precision_is_that_of_gaussian_balls(scale):
    """Real N(0, 1), synthetic N(0, s²) in d genes: P(a) = F(F⁻¹(a) / s²) with F chi-squared of d degrees."""
    ball = scipy.stats.chi2(20)
    expected = integrated(lambda a: ball.cdf(ball.ppf(a) / scale**2))
    found = support(draw(0, n=1500), draw(1, scale, n=1500))["alpha_precision"]
    assert found == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("genes", [3, 500])
def test_fresh_profiles_lose_by_chance_alone_as_much_as_two_brownian_bridges_differ(genes):
    n = 100
    found = mean_of([support(draw(2 * i, n=n, genes=genes), draw(2 * i + 1, n=n, genes=genes)) for i in range(40)])
    assert found["alpha_precision"] == pytest.approx(1 - np.sqrt(np.pi / 4) / np.sqrt(n), abs=0.02)


def test_beta_recall_has_its_null_in_one_gene():
    """In one gene neighbours lie equally far from the centre, so that R(b) = b (1 - 2^-k)."""
    for k in (1, 3):
        found = mean_of([support(draw(2 * i, genes=1), draw(2 * i + 1, genes=1), k) for i in range(20)])
        assert found["beta_recall"] == pytest.approx(1 - 2.0**-k, abs=0.03)


def test_beta_recall_is_that_of_its_definition(monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", 32)
    real, synthetic, k = draw(0, n=90, genes=4), draw(1, 0.7, n=70, genes=4), 3
    across = np.linalg.norm(real[:, None] - synthetic[None], axis=2)
    within = np.linalg.norm(real[:, None] - real[None], axis=2)
    np.fill_diagonal(within, np.inf)
    within.sort(axis=1)
    outwards = np.argsort(np.linalg.norm(synthetic - synthetic.mean(axis=0), axis=1))
    levels = (np.arange(1000) + 0.5) / 1000
    curve = []
    for level in levels:
        kept = outwards[: int(level * 70)]
        curve.append((across[:, kept] <= within[:, k - 1 : k]).any(axis=1).mean() if len(kept) else 0.0)
    found = support(real, synthetic, k)
    assert found["beta_recall"] == pytest.approx(1 - 2 * np.abs(np.array(curve) - levels).mean(), abs=1e-9)


def test_a_collapsed_or_far_generator_has_neither_support():
    train = draw(0)
    collapsed, far = support(train, draw(1, 0.01)), support(train, draw(1, shift=5.0))
    assert collapsed["alpha_precision"] == pytest.approx(0, abs=0.01)
    assert far["alpha_precision"] == pytest.approx(0, abs=0.01)
    assert far["beta_recall"] == pytest.approx(0, abs=0.01)


def test_support_needs_more_real_profiles_than_neighbours():
    with pytest.raises(ValueError, match=r"k = 5.*found 4"):
        support(draw(0, n=4), draw(1))


def test_classes_are_scored_alone_on_equal_sides_and_small_ones_are_left_empty():
    real, synthetic = draw(0, n=150, genes=5), draw(1, n=200, genes=5)
    real_labels, synthetic_labels = np.repeat(["a", "b", "c"], [100, 40, 10]), np.repeat(["b", "a", "c"], [35, 105, 60])
    table = fidelity_by_class(real, real_labels, synthetic, synthetic_labels, 5).set_index("label")
    assert table["n"].tolist() == [100, 35, 10]
    expected = fidelity(real[100:135], synthetic[:35], 5)
    assert [table.loc["b", "precision"], table.loc["b", "recall"]] == [expected["precision"], expected["recall"]]
    assert np.isnan(table.loc["c", "precision"])
    assert table.loc["c", "note"] == "10 profiles, fewer than 30"
    assert not table["note"][["a", "b"]].any()
