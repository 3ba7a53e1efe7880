import warnings

import numpy as np
import pytest

from transcriptome_diffusion.metrics import two_sample
from transcriptome_diffusion.metrics.neighbours import Pair
from transcriptome_diffusion.metrics.two_sample import classifier_tests

LABELS = np.repeat(np.arange(5), [24, 18, 10, 7, 5])
CENTRES = 2 * np.random.default_rng(1).normal(size=(5, 40))
N = len(LABELS)


def tissues(seed, shift=0.0, scale=1.0):
    return CENTRES[LABELS] + shift + scale * np.random.default_rng(seed).normal(size=(N, 40))


def together_of(real, synthetic, strata, donors, seed):
    return two_sample._together(Pair.of(real, synthetic).squares(), len(real), strata, donors, seed)


def resampled(rng):
    """Row numbers with repeats, of the same classes as all rows."""
    return np.concatenate(
        [rng.choice(rows, len(rows)) for rows in np.split(np.arange(N), np.unique(LABELS, return_index=True)[1][1:])]
    )


def separate(real, synthetic, fit=None, seed=0, donors=None):
    """One classifier alone, as the trees take a second."""
    strata, sides = (LABELS, LABELS), np.repeat([0, 1], N)
    together = together_of(real, synthetic, strata, donors, seed)
    splits = list(two_sample._splits(sides, together, strata, 5, seed))
    both, fit = np.concatenate([real, synthetic]), fit or two_sample._logistic(0.01)
    return two_sample._cross_validated(fit, both, sides, splits)


def test_two_samples_of_one_mixture_of_tissues_cannot_be_separated():
    found = [separate(tissues(2 * i), tissues(2 * i + 1), seed=i) for i in range(50)]
    areas, p = np.array([run.auc for run in found]), np.array([run.p for run in found])
    assert areas.mean() == pytest.approx(0.5, abs=0.03)
    assert np.mean([run.low < 0.5 < run.high for run in found]) >= 0.9
    assert (p < 0.05).mean() <= 0.1
    assert (p < 0.5).mean() == pytest.approx(0.5, abs=0.2)


def test_folds_that_ignore_tissues_would_be_biased():
    """Why rows are paired within a tissue: the guard of the test above."""
    areas = []
    for i in range(20):
        real, synthetic = tissues(2 * i), tissues(2 * i + 1)
        sides = np.repeat([0, 1], N)
        splits = list(two_sample._splits(sides, np.arange(2 * N), None, 5, i))
        areas.append(
            two_sample._cross_validated(
                two_sample._logistic(1e-4), np.concatenate([real, synthetic]), sides, splits
            ).auc
        )
    assert np.mean(areas) < 0.45


@pytest.mark.parametrize("fault", ["shift", "scale"])
def test_trees_see_shifts_and_scales_and_the_logistic_regression_shifts(fault):
    synthetic = tissues(1, shift=0.6) if fault == "shift" else tissues(1, scale=0.3)
    found = classifier_tests(tissues(0), synthetic, strata=(LABELS, LABELS), logistic_c=0.01)
    assert found["boosted"].p < 0.01
    assert found["boosted"].low > 0.5
    assert (found["logistic"].p < 0.01) == (fault == "shift")
    assert not found["boosted"].note


@pytest.mark.parametrize("noise", [0.0, 0.02], ids=["copies", "near copies"])
def test_a_memoriser_is_not_separated_and_copies_stay_in_the_fold_of_their_original(noise):
    areas = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        real = tissues(100 + seed)
        drawn = resampled(rng)
        copies = real[drawn] + noise * rng.normal(size=real.shape)
        together = together_of(real, copies, (LABELS, LABELS), None, seed)
        assert (together[drawn] == together[N:]).all()
        areas.append(separate(real, copies, seed=seed).auc)
    assert np.mean(areas) == pytest.approx(0.5, abs=0.05)


def test_repeats_of_one_synthetic_profile_do_not_leak():
    rng = np.random.default_rng(0)
    fresh = tissues(1)
    drawn = resampled(rng)
    together = together_of(tissues(0), fresh[drawn], (LABELS, LABELS), None, 0)[N:]
    for row in np.unique(drawn):
        assert len(set(together[drawn == row])) == 1


def test_profiles_of_a_donor_stay_together_and_folds_are_balanced():
    donors = np.arange(N) // 2, N + np.arange(N)
    together = together_of(tissues(0), tissues(1), (LABELS, LABELS), donors, 0)
    assert all(together[2 * i] == together[2 * i + 1] for i in range(N // 2))
    sides = np.repeat([0, 1], N)
    for _, test in two_sample._splits(sides, together, (LABELS, LABELS), 5, 0):
        assert np.bincount(sides[test]).tolist() == [len(test) / 2] * 2


def test_donors_of_many_tissues_on_both_sides_still_fall_into_folds():
    """As in GTEx: a profile of each of five tissues, from every donor."""
    rng, labels = np.random.default_rng(0), np.tile(np.arange(5), 60)
    donors = tuple(np.repeat([f"{side}{i}" for i in range(60)], 5) for side in ("held-out ", "train "))
    sides = [CENTRES[labels] + rng.normal(size=(300, 40)) for _ in donors]
    together = together_of(*sides, (labels, labels), donors, 0)
    splits = list(two_sample._splits(np.repeat([0, 1], 300), together, (labels, labels), 5, 0))
    assert len(splits) == 5
    for train, test in splits:
        assert not set(np.concatenate(donors)[train]) & set(np.concatenate(donors)[test])
    found = classifier_tests(*sides, strata=(labels, labels), donors=donors)["logistic"]
    assert found.low < 0.5 < found.high
    assert found.auc == pytest.approx(0.5, abs=0.1)


def test_a_collapsed_side_still_falls_into_folds():
    found = separate(tissues(0), CENTRES[LABELS] + 1e-9 * np.random.default_rng(0).normal(size=(N, 40)))
    assert not found.note
    assert 0 <= found.auc <= 1


def test_many_genes_are_seen_through_their_principal_components(monkeypatch):
    values = np.random.default_rng(0).normal(size=(60, 300))
    monkeypatch.setattr(two_sample, "MAX_INPUTS", 100)
    squares = Pair.of(values[:20], values[20:]).squares()
    inputs = two_sample._components(squares)
    assert inputs.shape == (60, 59)
    centred = values - values.mean(axis=0)
    np.testing.assert_allclose(inputs @ inputs.T, centred @ centred.T, atol=1e-8)
    monkeypatch.setattr(two_sample, "MAX_INPUTS", 10)
    assert two_sample._components(squares).shape == (60, 10)


def test_where_nothing_can_be_said_the_reason_is_given():
    few = classifier_tests(tissues(0)[:10], tissues(1)[:10])
    assert all(np.isnan(result.auc) and "10 profiles" in result.note for result in few.values())
    same = np.repeat(tissues(0)[:1], N, axis=0) + 1e-12
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copied = classifier_tests(same, same.copy())
    assert all(np.isnan(result.auc) and "copies" in result.note for result in copied.values())


@pytest.mark.parametrize("shift", [0.0, 0.35])
def test_boosted_trees_are_as_good_as_those_of_scikit_learns_public_class(
    shift: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    real, synthetic = rng.normal(size=(2, 300, 40)).astype(np.float32)
    synthetic[:, :10] += shift
    found = {}
    for way in ("ours", "public"):
        if way == "public":

            def of_another_version(*_: object) -> None:
                raise TypeError

            monkeypatch.setattr(two_sample, "_grown", of_another_version)
        drawn = [two_sample.classifier_tests(real, synthetic, classifiers=["boosted"], seed=seed) for seed in range(2)]
        found[way] = np.mean([one["boosted"].auc for one in drawn])
    assert found["ours"] == pytest.approx(found["public"], abs=0.04)
    assert (found["ours"] > 0.6) == (shift > 0)
