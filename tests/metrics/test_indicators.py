import numpy as np
import pytest

from populations import CENTRES, SIZES, draw
from transcriptome_diffusion.metrics.indicators import COLUMNS, TISSUE_COLUMNS, Real, matched, score
from transcriptome_diffusion.metrics.options import EvaluationOptions
from transcriptome_diffusion.metrics.profile_set import ProfileSet
from transcriptome_diffusion.metrics.yardsticks import Yardsticks

OPTIONS = EvaluationOptions(
    draws=4,
    neighbours={"landmarks": 5, "transcriptome": 5},
    classifier={"hidden": [16], "epochs": 30, "seeds": [0, 1]},
    components=5,
    folds=2,
)


@pytest.fixture(scope="module")
def real():
    parts = [
        draw(SIZES, 0),
        draw({"brain": 30, "liver": 20, "skin": 20}, 1),
        draw({"brain": 48, "liver": 32, "skin": 4}, 2),
    ]
    labelled = [ProfileSet(np.asarray(part.X), part.obs["tissue"].to_numpy()) for part in parts]
    yardsticks = Yardsticks.fit(*labelled[:2], parts[0].var_names, OPTIONS.components, OPTIONS.classifier)
    rows = [yardsticks.measure(part, "tissue", "sample_type") for part in parts]
    return Real(*rows, yardsticks, {"FIRST": np.arange(30), "SECOND": np.arange(30, 60)})


def measured(real, profiles):
    return real.yardsticks.measure(profiles, "tissue", "sample_type")


def means(table):
    return table.groupby(["reference", "metric"])["value"].mean()


@pytest.fixture(scope="module")
def ceiling(real):
    return score(real.train, real.test, real, OPTIONS, "landmarks")


@pytest.fixture(scope="module")
def oracle(real):
    fresh = measured(real, draw(SIZES, 7, donors=False))
    return score(fresh, fresh, real, OPTIONS, "transcriptome")


def labelled(sizes):
    labels = np.repeat(list(sizes), list(sizes.values()))
    return ProfileSet(np.zeros((len(labels), 1)), labels)


def test_both_sides_get_the_composition_of_the_held_out_donors():
    test = labelled({"brain": 50, "liver": 30})
    ours, theirs = next(matched(test, labelled({"brain": 200, "liver": 200}), test, 1, 0))
    for side in (ours, theirs):
        assert dict(zip(*np.unique(side.labels, return_counts=True), strict=True)) == {"brain": 50, "liver": 30}


def test_the_scarcer_side_sets_the_size():
    test = labelled({"brain": 50, "liver": 30})
    pairs = list(matched(test, labelled({"brain": 10, "liver": 200}), test, 2, 0))
    assert {(len(a.labels), len(b.labels)) for a, b in pairs} == {(40, 40)}


def test_large_cohorts_are_thinned_tissue_by_tissue():
    test = labelled({"brain": 500, "liver": 300, "skin": 3})
    ours, _ = next(matched(test, test, test, 1, 0, most=80))
    assert dict(zip(*np.unique(ours.labels, return_counts=True), strict=True)) == {"brain": 49, "liver": 29, "skin": 1}


def test_a_tissue_that_was_not_generated_is_named():
    test = labelled({"brain": 50, "liver": 30})
    with pytest.raises(ValueError, match=r"no profiles with the label \['liver'\]"):
        next(matched(test, labelled({"brain": 50}), test, 1, 0))


def test_every_value_is_a_number_or_has_a_reason(ceiling, oracle):
    for table, tissues in (ceiling, oracle):
        assert list(table.columns) == COLUMNS
        assert list(tissues.columns) == TISSUE_COLUMNS
        for part in (table, tissues):
            assert (part["value"].isna() == (part["note"] != "")).all()


def test_fresh_draws_of_the_same_population_score_as_real_ones_do(ceiling, oracle):
    found, best = means(oracle[0]), means(ceiling[0])
    tolerances = {
        "precision": 0.08, "recall": 0.08, "adversarial_accuracy": 0.1, "spread": 0.12, "correlation": 0.06,
        "within_class_correlation": 0.08, "module_density": 0.15, "lfc_slope": 0.06, "contrast_lfc_slope": 0.1,
        "gene_set_spread": 0.3, "mmd": 0.005, "alpha_precision": 0.15, "accuracy_mlp": 0.05, "class_mean_r2": 0.05,
    }  # fmt: skip
    for metric, tolerance in tolerances.items():
        assert found["test", metric] == pytest.approx(best["test", metric], abs=tolerance), metric
    for null, metric in ((1, "spread"), (1, "lfc_slope"), (1, "contrast_lfc_slope"), (0.5, "adversarial_accuracy")):
        assert found["test", metric] == pytest.approx(null, abs=0.1), metric
    assert found["train", "copying"] <= 0.05
    assert min(found["test", "mmd_p"], found["test", "energy_p"]) > 0.01


def test_each_fault_is_caught_by_its_indicator(real, ceiling):
    def centres(labels):
        return np.stack([CENTRES[label] for label in labels])

    rng = np.random.default_rng(0)
    rows = rng.integers(0, sum(SIZES.values()), 300)
    copies = type(real.train)(*(part[rows] for part in real.train))
    faults = {
        "shifted": lambda x, _: x + 2,
        "narrow": lambda x, labels: (x + centres(labels)) / 2,
        "mislabelled": lambda x, _: x[::-1],
        "independent": lambda x, labels: np.concatenate([rng.permuted(x[labels == c], axis=0) for c in SIZES]),
    }
    made = {name: measured(real, draw(SIZES, 8, change, donors=False)) for name, change in faults.items()}
    found = {
        name: means(score(row, row, real, OPTIONS, "landmarks")[0]) for name, row in (made | {"copies": copies}).items()
    }
    best = means(ceiling[0])
    assert found["copies"]["train", "copying"] > 0.99
    assert found["copies"]["train", "authenticity"] < 0.05
    assert found["shifted"]["test", "precision"] < 0.3
    assert found["shifted"]["test", "two_sample_logistic"] > 0.95
    assert found["narrow"]["test", "spread"] < 0.6
    assert found["narrow"]["test", "effect_size_slope"] > 1.2
    assert found["mislabelled"]["test", "accuracy_mlp"] < 0.75
    assert found["mislabelled"]["test", "lfc_correlation"] < 0.5
    for metric in ("module_density", "gene_set_spread", "within_class_correlation"):
        assert found["independent"]["test", metric] < best["test", metric] - 0.3, metric


def test_draws_and_sizes_are_reported(ceiling):
    table, _ = ceiling
    count = table.groupby(["reference", "metric"])["draw"].count()
    assert count["test", "precision"] == 4
    assert count["test", "accuracy_mlp"] == 2
    assert count["test", "mmd_p"] == count["train", "copying"] == 1
    assert set(table.loc[table["metric"] == "recall", "n"]) == {84}


def test_bounds_hold_the_mean_of_the_draws(oracle):
    table = oracle[0].dropna(subset="low")
    by = table.groupby(["reference", "metric"])[["value", "low", "high"]].mean()
    assert {"density", "adversarial_accuracy", "two_sample_boosted"} <= set(by.loc["test"].index)
    assert ((by["low"] < by["value"]) & (by["value"] < by["high"])).all()


def test_a_handful_of_profiles_has_no_precision_and_says_why(real):
    few = measured(real, draw({"brain": 12, "liver": 9, "skin": 4}, 9, donors=False))
    table, _ = score(few, few, real, OPTIONS, "transcriptome")
    precision = table.query("metric == 'precision' and reference == 'test'")
    assert precision["value"].isna().all()
    assert precision["note"].str.startswith("25 profiles a side, fewer than 30").all()
    assert table.query("metric == 'spread'")["value"].notna().all()


def test_small_tissues_are_left_empty_with_the_reason(ceiling):
    tissues = ceiling[1].set_index(["metric", "label"])
    assert np.isnan(tissues.at[("accuracy_mlp", "skin"), "value"])
    assert tissues.at[("accuracy_mlp", "skin"), "note"] == "4 profiles, fewer than 5"
    liver = tissues.loc[("accuracy_mlp", "liver")]
    assert liver["low"] <= liver["value"] <= liver["high"] or np.isnan(liver["low"])
    assert tissues.at[("precision", "brain"), "n"] == 48
    assert "fewer than 30" in tissues.at[("precision", "skin"), "note"]
    assert tissues.at[("lfc_slope", "brain"), "value"] == pytest.approx(1, abs=0.15)
    assert tissues.at[("contrast_lfc_slope", "brain"), "value"] == pytest.approx(1, abs=0.25)


def test_profiles_that_know_no_condition_are_told_to_learn_it(real):
    profiles = draw(SIZES, 7, donors=False)
    del profiles.obs["sample_type"]
    row = measured(real, profiles)
    table, _ = score(row, row, real, OPTIONS, "transcriptome")
    (note,) = set(table.loc[table["metric"].str.startswith("contrast_"), "note"])
    assert note == "these profiles have no sample_type: add it to the generator's `conditions`"
    without, _ = score(row, row, real, OPTIONS.model_copy(update={"contrast": None}), "transcriptome")
    assert not without["metric"].str.startswith("contrast_").any()


def test_real_donors_are_the_ceiling_of_training_on_real_and_synthetic(real, ceiling):
    found = means(ceiling[0])["test"]
    assert found["accuracy_mlp_augmented"] == found["accuracy_mlp"]
    wrong = measured(real, draw(SIZES, 7, lambda x, _: x[::-1], donors=False))
    made = means(score(wrong, wrong, real, OPTIONS, "landmarks")[0])["test"]
    assert made["accuracy_mlp_augmented"] > made["accuracy_mlp"] + 0.1


def test_of_all_genes_copies_are_looked_for_among_so_many_profiles(real):
    options = OPTIONS.model_copy(update={"most_profiles": 40, "draws": 1})
    for space, expected in (("landmarks", len(real.train.labels)), ("transcriptome", 40)):
        table, _ = score(real.train, real.train, real, options, space)
        found = table.query("metric == 'copying'").iloc[0]
        assert (found["n"], found["value"]) == (expected, 1.0)
