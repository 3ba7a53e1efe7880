"""Attacks and their yardsticks against closed forms, reference libraries and null distributions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score, roc_curve

from transcriptome_diffusion.metrics.membership import (
    auc,
    gaussian_ratio,
    kernel_ratio,
    loss_attack,
    membership_inference,
    true_positive_rate,
)
from transcriptome_diffusion.metrics.profile_set import ProfileSet


def people(n: int, name: str, labels: np.ndarray | None = None, per_donor: int = 1) -> ProfileSet:
    donors = np.array([f"{name}{i // per_donor}" for i in range(n)])
    return ProfileSet(np.empty((n, 0)), np.zeros(n, dtype=int) if labels is None else labels, donors)


def test_with_one_class_the_auc_is_scikit_learns_and_ties_count_half():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.7, 1, 80).round(1), rng.normal(0, 1, 50).round(1)
    found = auc(ours, people(80, "m"), theirs, people(50, "n"))
    assert found.value == pytest.approx(roc_auc_score(np.repeat([1, 0], [80, 50]), np.concatenate([ours, theirs])))
    assert auc(np.ones(80), people(80, "m"), np.ones(50), people(50, "n"))[:3] == (0.5, 0.5, 0.5)


def test_the_aucs_interval_is_that_of_delong():
    rng = np.random.default_rng(1)
    ours, theirs = rng.normal(0.5, 1, 300), rng.normal(0, 1, 200)
    found = auc(ours, people(300, "m"), theirs, people(200, "n"))
    wins = ours[:, None] > theirs
    error = np.sqrt(wins.mean(axis=1).var(ddof=1) / 300 + wins.mean(axis=0).var(ddof=1) / 200)
    assert (found.high - found.low) / 2 / 1.96 == pytest.approx(error, rel=0.01)


def test_classes_are_compared_apart_with_van_elterens_weights():
    rng = np.random.default_rng(2)
    labels, other_labels = np.repeat([0, 1], [90, 10]), np.repeat([0, 1], [20, 40])
    # class 1 scores higher throughout; pooled over classes, members would look like non-members
    ours, theirs = rng.normal(0.5, 1, 100) + 9 * labels, rng.normal(0, 1, 60) + 9 * other_labels
    single = [(ours[labels == c][:, None] > theirs[other_labels == c]).mean() for c in (0, 1)]
    weights = [90 * 20 / 110, 10 * 40 / 50]
    found = auc(ours, people(100, "m", labels), theirs, people(60, "n", other_labels))
    assert found.value == pytest.approx(np.average(single, weights=weights))
    assert (ours[:, None] > theirs).mean() < 0.4


@pytest.mark.parametrize("per_donor", [1, 4])
def test_nineteen_of_twenty_intervals_hold_the_null_however_many_profiles_a_donor_gives(per_donor: int):
    rng = np.random.default_rng(3)
    labels, other_labels = np.arange(160) // per_donor % 5, np.arange(80) // per_donor % 5
    members, others = people(160, "m", labels, per_donor), people(80, "n", other_labels, per_donor)

    def scores(n: int) -> np.ndarray:  # profiles of one donor resemble each other
        return np.repeat(rng.normal(size=n // per_donor), per_donor) + 0.3 * rng.normal(size=n)

    held = 0
    for _ in range(400):
        found = auc(scores(160), members, scores(80), others)
        held += found.low <= 0.5 <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_with_one_class_the_true_positive_rate_is_on_scikit_learns_curve():
    rng = np.random.default_rng(4)
    ours, theirs = rng.normal(1, 1, 500), rng.normal(0, 1, 400)
    truth, together = np.repeat([1, 0], [500, 400]), np.concatenate([ours, theirs])
    false, true, _ = roc_curve(truth, together, drop_intermediate=False)
    for rate in (0.1, 0.01):
        found = true_positive_rate(ours, people(500, "m"), theirs, people(400, "n"), rate, 0)
        assert found.value == pytest.approx(true[false <= rate].max())
        assert found.low < found.value < found.high
        assert not found.note


def test_the_interval_of_the_true_positive_rate_holds_the_null():
    rng = np.random.default_rng(5)
    labels, other_labels = np.arange(200) % 4, np.arange(100) % 4
    held, values = 0, []
    for _ in range(150):
        ours, theirs = rng.normal(size=200) + 5 * labels, rng.normal(size=100) + 5 * other_labels
        found = true_positive_rate(
            ours, people(200, "m", labels), theirs, people(100, "n", other_labels), 0.1, 0, replicates=200
        )
        held += found.low <= 0.1 <= found.high
        values.append(found.value)
    assert held / 150 > 0.88
    assert np.mean(values) == pytest.approx(0.1, abs=0.015)


def test_members_that_tie_with_the_threshold_are_not_recognised():
    theirs = np.repeat([0.0, 1.0, 2.0], [40, 55, 5])  # a tenth of them would reach into the tie at 1
    found = true_positive_rate(np.repeat([1.0, 2.0], [70, 30]), people(100, "m"), theirs, people(100, "n"), 0.1, 0)
    assert found.value == 0.3


def test_classes_of_other_levels_and_sizes_share_one_threshold():
    rng = np.random.default_rng(8)
    labels, other_labels = np.repeat([0, 1], [500, 100]), np.repeat([0, 1], [100, 400])
    # the median of all candidates of a class lies nearer to members where they are more
    ours, theirs = rng.normal(3, 1, 600) + 50 * labels, rng.normal(0, 1, 500) + 50 * other_labels
    found = true_positive_rate(ours, people(600, "m", labels), theirs, people(500, "n", other_labels), 0.1, 0)
    middle = [np.median(np.concatenate([ours[labels == c], theirs[other_labels == c]])) for c in (0, 1)]
    limit = np.sort(theirs - np.take(middle, other_labels))[::-1][50]
    shares = [(ours[labels == c] - middle[c] > limit).mean() for c in (0, 1)]
    assert found.value == pytest.approx(0.2 * shares[0] + 0.8 * shares[1])
    assert found.value > 0.5


def test_a_few_sure_members_show_at_low_false_positive_rates_while_the_auc_hides_them():
    rng = np.random.default_rng(6)
    ours, theirs = rng.normal(size=600), rng.normal(size=400)
    ours[:60] = 50
    members, others = people(600, "m"), people(400, "n")
    assert auc(ours, members, theirs, others).value < 0.58
    found = true_positive_rate(ours, members, theirs, others, 0.01, 0)
    assert found.value == pytest.approx(0.1 + 0.9 * 0.01, abs=0.02)
    assert found.low > 0.05


def test_a_rate_that_rests_on_too_few_non_members_is_left_empty_with_the_reason():
    ours, theirs = np.arange(600.0), np.arange(173.0)
    found = true_positive_rate(ours, people(600, "m"), theirs, people(173, "n"), 0.01, 0)
    assert np.isnan([found.value, found.low, found.high]).all()
    assert found.note == (
        "a false-positive rate of 1% rests on 1 of 173 non-members; 368 donors are needed, 173 are there"
    )
    # the highest of 368 scores lies above the true threshold with less than .025 of the probability
    assert 0.99**368 < 0.025 < 0.99**367


def test_with_few_donors_nothing_is_said():
    found = auc(np.arange(90.0), people(90, "m", per_donor=10), np.arange(50.0), people(50, "n"))
    assert np.isnan(found.value)
    assert "9 member and 50 other donors" in found.note
    labels = np.repeat([0, 1], 20)
    assert np.isnan(auc(np.arange(40.0), people(40, "m", labels), np.arange(40.0), people(40, "n", labels + 2)).value)


def small_sets(seed: int, genes: int = 12) -> tuple[np.ndarray, np.ndarray, ProfileSet, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(genes, genes)) / 2
    labels, reference_labels, classes = np.arange(40) % 2, np.arange(24) % 2, np.arange(10) % 2
    shift = rng.normal(size=(2, genes))
    synthetic, reference, queries = (
        shift[own] + rng.normal(size=(len(own), genes)) @ mixing for own in (labels, reference_labels, classes)
    )
    return synthetic, labels, ProfileSet(reference, reference_labels, np.arange(24)), queries, classes


def centred(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    parts = values - np.stack([values[labels == c].mean(axis=0) for c in labels])
    sizes = np.array([np.sum(labels == c) for c in labels])
    return parts * np.sqrt(sizes / (sizes - 1))[:, None]


def test_the_gaussian_ratio_is_that_of_scipys_densities():
    synthetic, labels, reference, queries, classes = small_sets(0)

    def log_density(values: np.ndarray, own: np.ndarray) -> np.ndarray:
        covariance, _ = ledoit_wolf(centred(values, own), assume_centered=True)
        return np.array(
            [
                multivariate_normal(values[own == c].mean(axis=0), covariance).logpdf(x)
                for x, c in zip(queries, classes, strict=True)
            ]
        )

    expected = log_density(synthetic, labels) - log_density(reference.values, reference.labels)
    found = gaussian_ratio(synthetic, labels, reference)(queries, classes)
    np.testing.assert_allclose(found - found.mean(), expected - expected.mean(), rtol=1e-6)


def test_the_gaussian_ratio_needs_no_full_rank():
    synthetic, labels, reference, queries, classes = small_sets(1, genes=60)
    covariance, _ = ledoit_wolf(centred(synthetic, labels), assume_centered=True)
    other, _ = ledoit_wolf(centred(reference.values, reference.labels), assume_centered=True)
    expected = np.empty(len(queries))
    for i, (x, c) in enumerate(zip(queries, classes, strict=True)):
        away, far = x - synthetic[labels == c].mean(0), x - reference.values[reference.labels == c].mean(0)
        expected[i] = (far @ np.linalg.solve(other, far) - away @ np.linalg.solve(covariance, away)) / 2
    np.testing.assert_allclose(gaussian_ratio(synthetic, labels, reference)(queries, classes), expected, rtol=1e-6)


def test_the_kernel_ratio_is_that_of_scipys_densities():
    synthetic, labels, reference, queries, classes = small_sets(2)
    together = np.concatenate([centred(synthetic, labels), centred(reference.values, reference.labels)])
    covariance, _ = ledoit_wolf(together, assume_centered=True)

    def log_density(centres: np.ndarray) -> np.ndarray:
        kernels = np.array([multivariate_normal(centre, covariance).logpdf(queries) for centre in centres])
        return logsumexp(kernels, axis=0) - np.log(len(centres))

    expected = log_density(synthetic) - log_density(reference.values)
    np.testing.assert_allclose(kernel_ratio(synthetic, labels, reference)(queries, classes), expected, rtol=1e-6)


def test_classes_that_the_reference_lacks_are_taken_from_the_synthetic_profiles():
    synthetic, labels, reference, queries, classes = small_sets(3)
    only = reference.labels == 0
    poorer = ProfileSet(reference.values[only], reference.labels[only], reference.donors[only])
    assert np.isfinite(gaussian_ratio(synthetic, labels, poorer)(queries, classes)).all()


def test_every_attack_is_reported_by_three_numbers():
    synthetic, labels, reference, queries, classes = small_sets(4)
    members = ProfileSet(synthetic[:20], labels[:20], np.arange(20))
    others = ProfileSet(queries, classes, np.arange(100, 110))
    table = membership_inference(synthetic, labels, members, others, reference, 0).set_index("metric")
    attacks = ("gan_leaks", "gan_leaks_calibrated", "domias", "domias_gaussian")
    assert list(table.index) == [f"{a}_{m}" for a in attacks for m in ("auc", "tpr_10", "tpr_1")]
    assert table.loc["gan_leaks_auc", "value"] == 1  # every member was handed out
    assert table.loc["gan_leaks_tpr_1", "null"] == 0.01
    assert (table["value"].isna() == (table["note"] != "")).all()


def test_the_loss_attack_joins_what_many_times_tell_whatever_their_scales():
    rng = np.random.default_rng(7)
    members, others = people(300, "m"), people(200, "n")
    scale = np.array([1e-3, 1.0, 1e3, 1.0])

    def noise(n: int) -> np.ndarray:
        return rng.normal(size=(n, 4))

    losses = iter([scale * (noise(300) - 0.5), scale * noise(200)])
    table, by_time = loss_attack(lambda _: next(losses), members, others, (0.2, 0.4, 0.6, 0.8), 0)
    # four shifts of half a deviation are one of a whole: P(N(1, 2) > 0) = Phi(1 / sqrt(2))
    assert table.set_index("metric").loc["loss_attack_auc", "value"] == pytest.approx(0.76, abs=0.04)
    assert by_time["value"].to_numpy() == pytest.approx(np.full(4, 0.638), abs=0.06)
    assert list(by_time["time"]) == [0.2, 0.4, 0.6, 0.8]


def test_equal_losses_tell_nothing_and_broken_ones_are_refused():
    members, others = people(30, "m"), people(20, "n")
    table, _ = loss_attack(lambda profiles: np.ones((len(profiles), 2)), members, others, (0.1, 0.9), 0)
    assert table.set_index("metric").loc["loss_attack_auc", "value"] == 0.5
    with pytest.raises(ValueError, match="30 profiles at 3 times"):
        loss_attack(lambda profiles: np.ones((len(profiles), 2)), members, others, (0.1, 0.5, 0.9), 0)
    with pytest.raises(ValueError, match="30 values that are not finite"):
        loss_attack(lambda profiles: np.full(len(profiles), np.nan), members, others, (0.1,), 0)
