"""Every privacy indicator on generators with a known fault: which is caught by what, and by what not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.metrics.fidelity import fidelity
from transcriptome_diffusion.metrics.privacy import INDICATORS, halves, privacy, record_distances
from transcriptome_diffusion.metrics.profile_set import ProfileSet

GENES, CLASSES, FACTORS = 150, 3, 10


class Population:
    """Profiles of three tissues, with factors in common; a third of the donors give two profiles."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.means = self.rng.normal(size=(CLASSES, GENES))
        self.loadings = self.rng.normal(size=(FACTORS, GENES)) / 2

    def draw(self, n: int, name: str) -> ProfileSet:
        donors = np.repeat(np.arange(n), np.where(np.arange(n) % 3, 1, 2))[:n]
        of_donor = self.rng.normal(size=(n, FACTORS))[donors]
        labels = np.arange(n) % CLASSES
        factors = 0.4 * of_donor + 0.9 * self.rng.normal(size=(n, FACTORS))
        values = self.means[labels] + factors @ self.loadings + 0.5 * self.rng.normal(size=(n, GENES))
        return ProfileSet(values.astype(np.float32), labels, np.array([f"{name}{d}" for d in donors]))


class Case(NamedTuple):
    train: ProfileSet
    held_out: ProfileSet
    reference: ProfileSet
    fresh: ProfileSet
    rng: np.random.Generator


def case(seed: int, n: int = 240) -> Case:
    population = Population(seed)
    sizes = {"train": n, "held_out": n // 2, "reference": n // 2, "fresh": n}
    return Case(*(population.draw(size, name) for name, size in sizes.items()), population.rng)


def mixed(c: Case, share: float, noise: float = 0.0) -> np.ndarray:
    """Fresh profiles, of which a share is replaced by training profiles of the same class."""
    values = c.fresh.values.copy()
    copied = c.rng.random(len(values)) < share
    values[copied] = c.train.values[copied] + noise * c.rng.normal(size=(copied.sum(), GENES))
    return values


def class_gaussian(c: Case) -> np.ndarray:
    """As many draws from a Gaussian with the training profiles' class means and covariance."""
    means = np.stack([c.train.values[c.train.labels == label].mean(axis=0) for label in range(CLASSES)])
    residuals = c.train.values - means[c.train.labels]
    n = len(residuals)
    return means[c.fresh.labels] + c.rng.normal(size=(n, n)) @ residuals / np.sqrt(n)


FAULTS = {
    "oracle": lambda c: c.fresh.values,
    "shifted": lambda c: c.fresh.values + 0.5,
    "collapsed": lambda c: 0.3 * c.fresh.values,
    "shuffled labels": lambda c: c.rng.permutation(c.fresh.values),
    "permuted genes": lambda c: c.fresh.values[:, c.rng.permutation(GENES)],
    "memoriser": lambda c: mixed(c, 1),
    "memoriser with noise": lambda c: mixed(c, 1, noise=0.5),
    "half copies": lambda c: mixed(c, 0.5),
    "copies in ten": lambda c: mixed(c, 0.1),
    "copies in ten with noise": lambda c: mixed(c, 0.1, noise=0.2),
    "fitted Gaussian": class_gaussian,
}
ATTACKS = ("gan_leaks_auc", "gan_leaks_calibrated_auc", "domias_auc", "domias_gaussian_auc")
JUDGES = ("closer_to_train", "privacy_loss", "nndr_difference_p05", *ATTACKS, "gan_leaks_tpr_10")
INNOCENT = ("oracle", "shifted", "collapsed", "shuffled labels", "permuted genes")
#: what has to catch a fault; that a few copies in ten leave every median and AUC almost alone is the point
CATCHES = {
    "memoriser": JUDGES,
    "memoriser with noise": ("closer_to_train", "privacy_loss", *ATTACKS, "gan_leaks_tpr_10"),
    "half copies": ("closer_to_train", "nndr_difference_p05", *ATTACKS, "gan_leaks_tpr_10"),
    "copies in ten": ("nndr_difference_p05", "gan_leaks_tpr_10"),
    "copies in ten with noise": ("gan_leaks_tpr_10",),
    "fitted Gaussian": ("domias_auc", "domias_gaussian_auc"),
}


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    """Means of value and bounds over populations, by fault: no test hangs on one lucky draw."""
    found = {}
    for fault, generate in FAULTS.items():
        runs = []
        for seed in range(3):
            c = case(seed)
            runs.append(privacy(generate(c), c.fresh.labels, c.train, c.held_out, c.reference, seed))
        found[fault] = pd.concat(runs).groupby("metric")[["value", "low", "high", "null"]].mean()
    return found


@pytest.mark.parametrize("fault", CATCHES)
def test_a_generator_that_knows_its_donors_is_caught(tables: dict[str, pd.DataFrame], fault: str) -> None:
    table = tables[fault].loc[list(CATCHES[fault])]
    assert (table["low"] > table["null"]).all(), table.round(3).to_string()


@pytest.mark.parametrize("fault", INNOCENT)
def test_a_bad_generator_that_knows_no_donor_is_not_caught(tables: dict[str, pd.DataFrame], fault: str) -> None:
    table = tables[fault].loc[list(JUDGES)]
    assert ((table["low"] <= table["null"]) & (table["null"] <= table["high"])).all(), table.round(3).to_string()


def test_copies_reach_the_ends_of_the_scales(tables: dict[str, pd.DataFrame]) -> None:
    table = tables["memoriser"]["value"]
    assert table["gan_leaks_auc"] == table["gan_leaks_tpr_10"] == 1
    assert min(table["gan_leaks_calibrated_auc"], table["domias_auc"], table["domias_gaussian_auc"]) > 0.97
    assert table["dcr_train_p05"] == table["nndr_train_p05"] == 0


def test_few_copies_stay_hidden_from_medians_and_aucs_but_not_from_true_positives(
    tables: dict[str, pd.DataFrame],
) -> None:
    few, oracle = tables["copies in ten"]["value"], tables["oracle"]["value"]
    assert few["dcr_ratio"] == pytest.approx(oracle["dcr_ratio"], abs=0.03)
    # .1 x 1 + .9 x .5, and .1 + .9 x .1
    assert few["gan_leaks_auc"] == pytest.approx(0.55, abs=0.05)
    assert few["gan_leaks_tpr_10"] == pytest.approx(0.19, abs=0.06)


def test_the_strength_of_an_attack_grows_with_the_share_of_copies(tables: dict[str, pd.DataFrame]) -> None:
    for metric in (*ATTACKS, "closer_to_train"):
        values = [tables[f].loc[metric, "value"] for f in ("oracle", "half copies", "memoriser")]
        assert values == sorted(values)


@pytest.fixture
def small() -> Case:
    return case(9, n=90)


def distances(c: Case, synthetic: np.ndarray, seed: int = 0) -> pd.DataFrame:
    return record_distances(synthetic, c.fresh.labels, c.train, c.held_out, seed).set_index("metric")


def test_distances_to_held_out_donors_are_the_nearest_ones(small: Case) -> None:
    """As many synthetic as held-out profiles: each draw takes all of both."""
    s = np.concatenate([np.flatnonzero(small.fresh.labels == c)[:15] for c in range(CLASSES)])
    values = small.fresh.values[s]
    table = record_distances(values, small.fresh.labels[s], small.train, small.held_out, 0).set_index("metric")
    far = np.sort(np.linalg.norm(values[:, None] - small.held_out.values, axis=2), axis=1)
    assert table.loc["dcr_held_out", "value"] == pytest.approx(np.median(far[:, 0]), rel=1e-5)
    assert table.loc["nndr_held_out_p05", "value"] == pytest.approx(np.quantile(far[:, 0] / far[:, 1], 0.05), rel=1e-5)


def test_the_privacy_loss_of_a_matched_memoriser_is_the_adversarial_accuracy_it_gains() -> None:
    c = case(3, n=60)
    same = ProfileSet(c.train.values[:30], c.train.labels[:30], c.train.donors[:30])
    table = record_distances(same.values, same.labels, same, c.held_out, 0).set_index("metric")
    # against train the accuracy is 0, so that the loss is the accuracy of telling train from held-out
    expected = fidelity(c.held_out.values, same.values, 1)["adversarial_accuracy"]
    assert table.loc["privacy_loss", "value"] == pytest.approx(expected)


def test_intervals_of_distances_hold_the_null_in_most_populations() -> None:
    held = []
    for seed in range(30):
        table = distances(c := case(100 + seed, n=60), c.fresh.values, seed).loc[["closer_to_train", "privacy_loss"]]
        held.append((table["low"] <= table["null"]) & (table["null"] <= table["high"]))
    assert np.mean(held, axis=0) == pytest.approx(0.95, abs=0.08)


def test_the_same_seed_gives_the_same_table(small: Case) -> None:
    pd.testing.assert_frame_equal(distances(small, small.fresh.values), distances(small, small.fresh.values))


def test_too_few_profiles_are_left_empty_with_the_reason(small: Case) -> None:
    few = small.held_out.take(slice(9))
    table = record_distances(small.fresh.values, small.fresh.labels, small.train, few, 0)
    assert list(table["metric"]) == list(INDICATORS)
    assert table["value"].isna().all()
    assert set(table["note"]) == {"9 matched profiles on each side; 20 are needed"}


def test_halves_share_donors_out_evenly_and_keep_them_whole() -> None:
    records = Population(0).draw(121, "d")
    one, two = halves(records, 0)
    assert sorted([*one, *two]) == list(range(121))
    assert not set(records.donors[one]) & set(records.donors[two])
    for label in range(CLASSES):
        shares = [np.sum(records.labels[rows] == label) for rows in (one, two)]
        assert min(shares) > 0.35 * sum(shares)
    assert not np.array_equal(one, halves(records, 1)[0])


def test_half_of_the_training_donors_know_nothing_of_the_other() -> None:
    """The row ``real``: as near as a generator can come without knowing its members."""
    c = case(5)
    one, two = halves(c.train, 0)
    members = c.train.take(two)
    table = privacy(c.train.values[one], c.train.labels[one], members, c.held_out, c.reference, 0).set_index("metric")
    judged = table.loc[list(JUDGES)]
    assert ((judged["low"] <= judged["null"]) & (judged["null"] <= judged["high"])).all(), judged.to_string()
