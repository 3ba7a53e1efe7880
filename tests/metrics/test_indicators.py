import numpy as np
import pytest

from transcriptome_diffusion.metrics.indicators import matched, score
from transcriptome_diffusion.metrics.utility import Labelled
from transcriptome_diffusion.parameters import ClassifierOptions

CENTRES = {"brain": 0.0, "liver": 3.0}
QUICK = ClassifierOptions(hidden=[16], epochs=30, seeds=[0, 1])


def draw(sizes, seed, genes=20, shift=0.0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(list(sizes), list(sizes.values()))
    centres = np.array([CENTRES[label] for label in labels])[:, None]
    return Labelled(rng.normal(centres + shift, 1.0, size=(len(labels), genes)).astype(np.float32), labels)


@pytest.fixture(scope="module")
def parts():
    return {
        "train": draw({"brain": 120, "liver": 90}, 0),
        "validation": draw({"brain": 30, "liver": 20}, 1),
        "test": draw({"brain": 50, "liver": 30}, 2),
    }


def scored(against_test, against_train, parts):
    table = score(against_test, against_train, **parts, neighbours=5, draws=4, seed=0, classifier=QUICK)
    return table, table.groupby(["reference", "metric"])["value"].mean()


def test_both_sides_get_the_composition_of_the_held_out_donors(parts):
    ours, theirs = next(matched(parts["test"], draw({"brain": 200, "liver": 200}, 3), parts["test"], 1, 0))
    for side in (ours, theirs):
        assert dict(zip(*np.unique(side.labels, return_counts=True), strict=True)) == {"brain": 50, "liver": 30}


def test_the_scarcer_side_sets_the_size(parts):
    pairs = list(matched(parts["test"], draw({"brain": 10, "liver": 200}, 3), parts["test"], 2, 0))
    assert {(len(a.labels), len(b.labels)) for a, b in pairs} == {(40, 40)}


def test_a_tissue_that_was_not_generated_is_named(parts):
    with pytest.raises(ValueError, match=r"no profiles with the label \['liver'\]"):
        next(matched(parts["test"], draw({"brain": 50}, 3), parts["test"], 1, 0))


def test_fresh_draws_of_the_same_population_score_as_real_ones_do(parts):
    oracle = draw({"brain": 120, "liver": 90}, 7)
    _, found = scored(oracle, oracle, parts)
    _, real = scored(parts["train"], parts["test"], parts)
    for metric, tolerance in {"precision": 0.06, "recall": 0.06, "adversarial_accuracy": 0.08, "spread": 0.1}.items():
        assert found["test", metric] == pytest.approx(real["test", metric], abs=tolerance), metric
    assert found["test", "accuracy_mlp"] > 0.95
    assert found["train", "copying"] <= 0.05


def test_each_fault_is_caught_by_its_indicator(parts):
    rng = np.random.default_rng(0)
    train = parts["train"]
    copies = Labelled(*(part[rng.integers(0, len(train.labels), 300)] for part in train))
    oracle = draw({"brain": 120, "liver": 90}, 7)
    shifted = draw({"brain": 120, "liver": 90}, 8, shift=2.0)
    narrow = Labelled(np.array([CENTRES[c] for c in oracle.labels])[:, None] * 0.5 + oracle.values * 0.5, oracle.labels)
    mislabelled = Labelled(oracle.values, oracle.labels[::-1].copy())
    tables = {
        name: scored(part, part, parts)[1]
        for name, part in {"copies": copies, "shifted": shifted, "narrow": narrow, "mislabelled": mislabelled}.items()
    }
    assert tables["copies"]["train", "copying"] > 0.99
    assert tables["shifted"]["test", "precision"] < 0.3
    assert tables["narrow"]["test", "spread"] == pytest.approx(0.25, rel=0.15)
    assert tables["narrow"]["test", "recall"] < 0.7
    assert tables["mislabelled"]["test", "accuracy_mlp"] < 0.75


def test_draws_and_sizes_are_reported(parts):
    table, _ = scored(parts["train"], parts["test"], parts)
    count = table.groupby(["reference", "metric"])["draw"].count()
    assert count["test", "precision"] == 4
    assert count["test", "accuracy_mlp"] == 2
    assert count["train", "copying"] == 1
    assert set(table.loc[table["metric"] == "recall", "n"]) == {80}
