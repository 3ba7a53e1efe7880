import contextlib
import io

import numpy as np
import pytest
from prdc import compute_prdc

from transcriptome_diffusion.metrics import neighbours
from transcriptome_diffusion.metrics.fidelity import fidelity

N, K = 300, 10


def draw(seed, shift=0.0, scale=1.0, n=N, genes=20):
    return np.random.default_rng(seed).normal(shift, scale, size=(n, genes))


@pytest.mark.parametrize(
    "synthetic", [draw(1), draw(2, 0.3, 0.7), draw(3, 0.0, 1.3), draw(4, n=170)], ids=["same", "shrunk", "wide", "few"]
)
@pytest.mark.parametrize("k", [1, 10, 50])
def test_precision_recall_density_coverage_are_those_of_the_prdc_package(synthetic, k, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", 64)
    real = draw(0)
    with contextlib.redirect_stdout(io.StringIO()):
        expected = compute_prdc(real, synthetic, nearest_k=k)
    ours = fidelity(real, synthetic, k)
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, abs=1e-12), name


def test_adversarial_accuracy_is_that_of_its_definition():
    real, synthetic = draw(0, n=80), draw(1, 0.4, 0.8, n=80)

    def nearest(a, b):
        d = np.sqrt(np.square(a[:, None] - b[None]).sum(axis=2))
        if a is b:
            np.fill_diagonal(d, np.inf)
        return d.min(axis=1)

    expected = 0.5 * (
        np.mean(nearest(real, synthetic) > nearest(real, real))
        + np.mean(nearest(synthetic, real) > nearest(synthetic, synthetic))
    )
    assert 0.5 < expected < 1
    assert fidelity(real, synthetic, K)["adversarial_accuracy"] == pytest.approx(expected)


def test_two_samples_of_one_distribution_reach_the_null_values():
    runs = [fidelity(draw(2 * i), draw(2 * i + 1), K) for i in range(10)]
    mean = {name: np.mean([run[name] for run in runs]) for name in runs[0]}
    j = np.arange(1, K + 1)
    coverage = 1 - np.prod((N - j) / (2 * N - j))  # Naeem et al. 2020, lemma 2
    assert mean["adversarial_accuracy"] == pytest.approx(0.5, abs=0.03)
    assert mean["density"] == pytest.approx(1.0, abs=0.05)
    assert mean["coverage"] == pytest.approx(coverage, abs=0.002)
    assert mean["precision"] == pytest.approx(mean["recall"], abs=0.02)
    assert min(mean["precision"], mean["recall"], mean["f1"]) > 0.93


def test_density_and_coverage_do_not_depend_on_the_number_of_genes_under_the_null():
    for genes in (2, 200):
        runs = [fidelity(draw(2 * i, genes=genes), draw(2 * i + 1, genes=genes), K) for i in range(6)]
        assert np.mean([run["density"] for run in runs]) == pytest.approx(1, abs=0.12), genes
        assert np.mean([run["adversarial_accuracy"] for run in runs]) == pytest.approx(0.5, abs=0.04), genes


def test_a_collapsed_generator_has_no_recall_and_stands_apart():
    found = fidelity(draw(0), draw(1, scale=0.01), K)
    assert found["precision"] == 1
    assert found["recall"] == 0
    assert found["f1"] == 0
    assert found["density"] > 2
    assert found["adversarial_accuracy"] > 0.5


def test_a_shifted_generator_has_no_precision_and_no_coverage():
    found = fidelity(draw(0), draw(1, shift=5.0), K)
    assert [found[name] for name in ("precision", "density", "coverage")] == [0, 0, 0]
    assert found["adversarial_accuracy"] == 1


def test_a_memoriser_is_told_by_an_adversarial_accuracy_of_zero_against_its_training_set():
    train = draw(0)
    assert fidelity(train, train.copy(), K)["adversarial_accuracy"] == 0
    held_out = draw(1)
    assert fidelity(held_out, train, K)["adversarial_accuracy"] == pytest.approx(0.5, abs=0.08)


def test_repeated_copies_count_as_ties_not_as_noise():
    train = draw(0, genes=2000).astype(np.float32)
    copies = train[np.random.default_rng(1).integers(N, size=N)]
    # every copy lies at 0 from its original and at 0 or more from other copies: never further from real
    found = fidelity(train, copies, K)["adversarial_accuracy"]
    never_drawn = 1 - len(np.unique(copies, axis=0)) / N
    assert found <= never_drawn / 2


def test_the_order_of_profiles_does_not_matter_and_roles_swap():
    real, synthetic = draw(0), draw(1, 0.2, 0.8)
    order = np.random.default_rng(2).permutation(N)
    expected = fidelity(real, synthetic, K)
    assert fidelity(real[order], synthetic[order[::-1]], K) == pytest.approx(expected)
    swapped = fidelity(synthetic, real, K)
    assert (swapped["precision"], swapped["recall"]) == (expected["recall"], expected["precision"])
    assert swapped["adversarial_accuracy"] == expected["adversarial_accuracy"]


def test_k_must_be_below_both_sizes():
    with pytest.raises(ValueError, match=r"k = 50.*found 40"):
        fidelity(draw(0), draw(1, n=40), 50)
    with pytest.raises(ValueError, match=r"k = 50.*found 40"):
        fidelity(draw(0, n=40), draw(1), 50)
