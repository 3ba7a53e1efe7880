"""The promise of differential privacy: sensitivity, noise, accounting, and what of a cohort reaches a model."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import kstest, norm
from test_reference_prior import GENES, OPTIONS, cohort

from transcriptome_diffusion.expression.profiles import dense, make_profiles
from transcriptome_diffusion.expression.reference import Within
from transcriptome_diffusion.generators import differential_privacy as dp
from transcriptome_diffusion.generators import reference_prior
from transcriptome_diffusion.generators.privacy_options import PrivacyOptions
from transcriptome_diffusion.generators.reference_prior import Prior, fit_with_reference

DP = PrivacyOptions(dial="dp", epsilon=8.0, axes=20)


class NoNoise:
    """A generator of zeros, so that what a mechanism sums can be seen."""

    def normal(self, centre, deviation, size):
        self.deviations = [*getattr(self, "deviations", []), float(deviation)]
        return np.zeros(size)


def test_the_noise_meets_the_exact_condition_and_no_smaller_noise_does():
    """Balle & Wang (2018), theorem 5, written out."""

    def delta(sigma, epsilon):
        return norm.cdf(0.5 / sigma - epsilon * sigma) - np.exp(epsilon) * norm.cdf(-0.5 / sigma - epsilon * sigma)

    for epsilon in (0.5, 1.0, 4.0, 8.0):
        sigma = dp.noise_multiplier(epsilon, 1e-5)
        assert delta(sigma, epsilon) <= 1e-5 * (1 + 1e-4)
        assert delta(0.999 * sigma, epsilon) > 1e-5
    # the classical bound, valid for epsilon <= 1, asks for more noise
    assert dp.noise_multiplier(1.0, 1e-5) < np.sqrt(2 * np.log(1.25 / 1e-5))


def test_two_mechanisms_are_together_as_private_as_one():
    from dp_accounting import ComposedDpEvent, GaussianDpEvent, NeighboringRelation
    from dp_accounting.pld import PLDAccountant

    multiplier = dp.noise_multiplier(4.0, 1e-5)
    first, second = dp.split_noise(multiplier, 0.9, 0.1)
    assert 1 / first**2 + 1 / second**2 == pytest.approx(1 / multiplier**2)
    assert first < second
    accountant = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE)
    accountant.compose(ComposedDpEvent([GaussianDpEvent(first), GaussianDpEvent(second)]))
    assert accountant.get_epsilon(1e-5) == pytest.approx(4.0, abs=0.01)


def attacks(rng):
    """Values, classes and donors of cohorts that try to move the sums far; the last donor is the one in question."""
    k, n = 6, 20
    ordinary = rng.normal(size=(n, k))
    for vectors, codes in (
        (np.full((1, k), 1e12), [0]),
        (np.full((1, k), -1e-12), [2]),
        (1e6 * rng.normal(size=(30, k)), rng.integers(3, size=30)),  # many profiles in every class
        (np.repeat(1e6 * np.eye(k)[:1], 3, axis=0), [0, 1, 2]),  # all classes in one direction
        (np.zeros((5, k)), [0, 0, 1, 1, 2]),
        (rng.normal(size=(4, k)) * 3, [1, 1, 1, 2]),
    ):
        values = np.concatenate([ordinary, vectors])
        classes = np.concatenate([rng.integers(3, size=n), codes]).astype(int)
        donors = np.array([f"d{i // 2}" for i in range(n)] + ["target"] * len(vectors))
        yield values, classes, donors


def test_no_donor_moves_the_sums_further_than_the_sensitivity():
    clip, worst = 2.5, 0.0
    for seed in range(5):
        for values, codes, donors in attacks(np.random.default_rng(seed)):
            others = donors != "target"
            whole = dp.donor_sums(values, codes, donors, 3, clip)
            without = dp.donor_sums(values[others], codes[others], donors[others], 3, clip)
            moved = np.linalg.norm(whole[0] - without[0])
            assert moved <= clip * (1 + 1e-9)
            assert np.linalg.norm(whole[1] - without[1]) == pytest.approx(1.0)
            both = np.append((whole[0] - without[0]).ravel(), dp.COUNT_WEIGHT * clip * (whole[1] - without[1]))
            assert np.linalg.norm(both) <= clip * np.sqrt(1 + dp.COUNT_WEIGHT**2) * (1 + 1e-9)
            worst = max(worst, moved / clip)
    assert worst > 0.999  # the bound is met, so no smaller one would do


def test_a_donor_counts_once_however_many_profiles_they_have():
    values = np.array([[3.0, 4.0], [3.0, 4.0], [0.3, 0.4]])
    sums, weights = dp.donor_sums(values, np.zeros(3, int), np.array(["a", "a", "b"]), 1, clip=1.0)
    np.testing.assert_allclose(sums, [[0.6 + 0.3, 0.8 + 0.4]])
    np.testing.assert_allclose(weights, [2.0])


def release(values, codes, donors, n_classes, multipliers, rng, within=1.0, between=1.0, clip=1.0, factor_variance=0.1):
    k = values.shape[1]
    prior = dp.PublicPrior(np.full(k, within), np.full(k, between), clip, factor_variance)
    return dp.release(values, codes, donors, n_classes, prior, multipliers, rng)


class Sums(NoNoise):
    """Also keeps the sums that noise is added to, whatever comes of them: it stops what would depend on them."""

    def __init__(self, monkeypatch):
        self.found = []
        exact = dp.donor_sums

        def seen(vectors, codes, donors, n_classes, clip):
            self.found.append((vectors, clip, exact(vectors, codes, donors, n_classes, clip)))
            sums, weights = self.found[-1][2]
            return np.zeros_like(sums), np.full_like(weights, 5.0)  # as if the noise had given the same for both

        monkeypatch.setattr(dp, "donor_sums", seen)


def test_no_donor_moves_any_of_the_three_sums_by_more_than_its_sensitivity(monkeypatch):
    """Given the same results of the mechanisms before, as composition allows."""
    worst = np.zeros(3)
    for seed in range(3):
        for values, codes, donors in attacks(np.random.default_rng(seed)):
            others, sums = donors != "target", []
            for rows in (np.ones(len(donors), bool), others):
                with monkeypatch.context() as patch:
                    spy = Sums(patch)
                    release(values[rows], codes[rows], donors[rows], 3, (1.0, 1.0, 1.0), spy)
                sums.append(spy.found)
            for place, (whole, without) in enumerate(zip(*sums, strict=True)):
                assert whole[1] == without[1] == 1.0
                moved = np.linalg.norm(whole[2][0] - without[2][0])
                assert moved <= 1 + 1e-9
                worst[place] = max(worst[place], moved)
    assert (worst > 0.999).all()


def test_the_noise_has_the_deviations_of_multipliers_times_sensitivities():
    values, codes, donors = next(attacks(np.random.default_rng(0)))
    spy = NoNoise()
    release(values, codes, donors, 3, (1.5, 2.0, 7.0), spy)
    first = 1.5 * np.sqrt(1 + dp.COUNT_WEIGHT**2)
    assert spy.deviations == pytest.approx([first, first / dp.COUNT_WEIGHT, 2.0, 7.0])


def test_released_means_are_normal_around_the_clipped_means_with_the_deviation_of_the_posterior():
    rng = np.random.default_rng(0)
    values = 0.1 * rng.normal(size=(400, 3)) + [1.0, 0.0, -1.0]
    codes, donors = np.zeros(400, int), np.arange(400)
    # a prior so wide that it shrinks nothing: two measurements of one mean
    found = [release(values, codes, donors, 1, (30.0, 20.0, 1.0), rng, 0.01, 1e4, 4.0) for _ in range(300)]
    unit = 4.0 * np.sqrt(3 * (1e4 + 0.01 + 0.01 / dp.PLANNED_DONORS))
    first = 30.0 * np.sqrt(1 + dp.COUNT_WEIGHT**2) * unit / 400
    second = 20.0 * 4.0 * np.sqrt(3 * (0.01 + 1 / (1 / first**2 + 1 / (1e4 + 0.01 / 400)))) / 400
    deviation = np.sqrt(1 / (1 / first**2 + 1 / second**2))
    scores = np.array([(one.means[0] - values.mean(axis=0)) / deviation for one in found])
    assert kstest(scores[:, 1], "norm").pvalue > 0.01
    assert np.std(scores) == pytest.approx(1.0, abs=0.12)


def test_units_are_those_with_the_smallest_posterior_variance_for_vectors_of_one_expected_length():
    rng = np.random.default_rng(0)
    within, unknown = np.exp(rng.normal(size=(2, 12)))
    for noise in (1e-4, 0.05, 1.0):
        unit = dp._unit(within, unknown, np.array([noise]), 2.0)
        assert np.sum((within + unknown) / unit**2) == pytest.approx(1 / 4)

        def error(u, noise=noise):
            return np.sum(1 / (1 / unknown + 1 / (noise * u) ** 2))

        for _ in range(50):
            other = unit * np.exp(0.3 * rng.normal(size=12))
            other *= 2 * np.sqrt(np.sum((within + unknown) / other**2))
            assert error(other) > error(unit) - 1e-12
    free = dp._unit(within, unknown, np.array([1e-4]), 2.0) / (within + unknown) ** 0.25
    assert free == pytest.approx(free[0], rel=1e-3)
    assert dp._unit(within, unknown, np.array([1.0]), 2.0).max() > 1e5  # some are left out


def test_the_second_look_at_the_means_has_less_noise_than_the_first_would_with_all_of_the_budget():
    rng = np.random.default_rng(2)
    values, codes, donors = rng.normal(size=(30, 40)) + 4 * rng.normal(size=40), np.zeros(30, int), np.arange(30)
    errors = {}
    for name, shares in {"two": (0.3, 0.7), "one": (1 - 1e-9, 1e-9)}.items():
        multipliers = (*dp.split_noise(1.0, *shares), 1.0)
        found = [release(values, codes, donors, 1, multipliers, rng, 1.0, 16.0).means[0] for _ in range(30)]
        errors[name] = np.square(np.array(found) - values.mean(axis=0)).mean()
    assert errors["two"] < 0.8 * errors["one"]


def test_class_factors_are_recovered_without_the_noise_of_the_means_and_shrunk_where_there_is_much_noise():
    rng = np.random.default_rng(1)
    codes = np.repeat([0, 1], 3000)
    values = rng.normal(size=(6000, 50)) * np.where(codes == 1, np.sqrt(1.6), 1.0)[:, None]
    given = (values, codes, np.arange(6000), 2)
    found = release(*given, (20.0, 20.0, 1.0), rng, clip=2.0)
    np.testing.assert_allclose(found.factors, [1, 1.6], atol=0.08)
    shrunk = release(*given, (20.0, 20.0, 2000.0), rng, clip=2.0, factor_variance=1e-4)
    assert np.ptp(shrunk.factors) < 0.01


# ------------------------------------------------------------------------------------------------ the model
@pytest.fixture(scope="module")
def own():
    return cohort({"t10": 15, "t11": 15}, 1, "d"), cohort({"t10": 6, "t11": 6}, 2, "v")


def fitted(train, validation, reference, rng=None):
    return fit_with_reference(train, validation, OPTIONS, reference, DP, rng or np.random.default_rng(5))


def test_nothing_but_what_is_released_reaches_the_model(own, reference, monkeypatch):
    """With the release replaced by constants, any cohort of the same classes gives the same model, record and all."""
    constant = dp.PrivateMeans(np.ones((2, 20)), np.array([15.2, 14.7]), np.array([1.0, 1.1]))
    monkeypatch.setattr("transcriptome_diffusion.generators.reference_prior.release", lambda *args, **kwargs: constant)
    train, validation = own
    other = cohort({"t10": 40, "t11": 3}, 77, "e", 5.0, 3.0)
    other = make_profiles(dense(other) - 60, other.obs, train.var, train.uns["unit"])  # another lower bound as well
    first, second = fitted(train, validation, reference), fitted(other, other, reference)
    for name, array in first.state().items():
        np.testing.assert_array_equal(second.state()[name], array, err_msg=name)
    assert first.record == second.record
    assert (first.lower_bound, first.settings) == (second.lower_bound, second.settings)


def test_the_noise_does_not_follow_from_the_settings(own, reference):
    models = [fit_with_reference(*own, OPTIONS, reference, DP) for _ in range(2)]
    assert np.abs(models[0].means - models[1].means).max() > 0.01


def test_the_model_says_what_is_protected_and_shows_noisy_counts_only(own, reference, tmp_path):
    model = fitted(*own, reference)
    assert model.record["privacy"]["epsilon"] == 8.0
    assert "one donor" in model.record["privacy"]["protected"]
    assert {label for label, _ in model.record["training_labels"]} == {"t10", "t11"}
    several = [fitted(*own, reference, np.random.default_rng(i)).classes.sizes for i in range(8)]
    assert len({tuple(sizes) for sizes in several}) > 4
    model.save(tmp_path / "model")
    json.loads((tmp_path / "model" / "model.json").read_text())


def test_means_come_nearer_with_more_budget_and_more_donors(reference):
    def error(epsilon: float, n: int) -> float:
        train, found = cohort({"t10": n, "t11": n}, 1, "d"), []
        truth = np.stack([dense(train)[:n].mean(axis=0), dense(train)[n:].mean(axis=0)])
        for seed in range(5):
            privacy = PrivacyOptions(dial="dp", epsilon=epsilon, axes=GENES)
            model = fit_with_reference(train, train[:4], OPTIONS, reference, privacy, np.random.default_rng(seed))
            found.append(np.square(model.means - truth).mean())
        return float(np.mean(found))

    assert error(16, 40) < error(1, 40)
    assert error(4, 150) < error(4, 15)


def test_with_as_many_axes_as_genes_means_are_released_in_all_directions(reference, monkeypatch):
    monkeypatch.setattr(reference_prior, "MOST_ROWS", 4)
    train, off = cohort({"t10": 60, "t11": 60}, 1, "d"), []
    for axes in (4, GENES):
        privacy = PrivacyOptions(dial="dp", epsilon=8.0, axes=axes)
        model = fit_with_reference(train, train[:4], OPTIONS, reference, privacy, np.random.default_rng(5))
        assert model.record["axes"] == axes
        truth = np.stack([dense(train)[:60].mean(axis=0), dense(train)[60:].mean(axis=0)])
        off.append(np.square(model.means - truth).mean())
    assert off[1] < 0.5 * off[0]
    labels = reference.obs["tissue"].to_numpy()
    prior = Prior.of(Within.of(dense(reference), labels))
    directions, variance, between = reference_prior._directions(prior, GENES)
    np.testing.assert_allclose(directions.T @ directions, np.eye(GENES), atol=1e-6)
    np.testing.assert_array_equal(directions[:, :4], prior.axes)
    assert variance[4:] == pytest.approx(prior.noise)
    assert between[4:] == pytest.approx(prior.between_rest)


def test_a_reference_without_a_gene_or_in_another_unit_is_refused(own, reference):
    with pytest.raises(ValueError, match=r"it has 59 of 60 genes"):
        fitted(*own, reference[:, 1:].copy())
    other = make_profiles(dense(reference), reference.obs, reference.var, "log2(TPM + 1)")
    with pytest.raises(ValueError, match=r"the cohort is in log2\(FPKM \+ 1\)"):
        fitted(*own, other)
