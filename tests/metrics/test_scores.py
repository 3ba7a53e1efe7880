import weakref
from functools import partial

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from populations import SIZES, draw
from transcriptome_diffusion import memory
from transcriptome_diffusion.memory import NotEnoughMemoryError
from transcriptome_diffusion.metrics import reference as references
from transcriptome_diffusion.metrics import scores
from transcriptome_diffusion.metrics.comparisons import COLUMNS, compare, compare_records
from transcriptome_diffusion.metrics.expected import ADVERSARIAL
from transcriptome_diffusion.metrics.neighbours import Pool, neighbour_distances
from transcriptome_diffusion.metrics.options import EvaluationOptions
from transcriptome_diffusion.metrics.profile_set import ProfileSet
from transcriptome_diffusion.metrics.reference import EvaluationReference, SpaceReference
from transcriptome_diffusion.metrics.scores import (
    NO_RECONSTRUCTOR,
    SCORE_COLUMNS,
    score_generator,
    score_real,
    score_white_box,
)
from transcriptome_diffusion.metrics.statistics import matched

OPTIONS = EvaluationOptions(
    draws=4,
    neighbours={"landmarks": 5, "transcriptome": 5},
    classifier={"hidden": [16], "epochs": 30, "seeds": [0, 1]},
    components=5,
    folds=2,
)


FAST = OPTIONS.model_copy(
    update={"draws": 1, "classifier": OPTIONS.classifier.model_copy(update={"epochs": 2, "seeds": [0]})}
)
GENE_SETS = {"FIRST": tuple(f"G{i}" for i in range(30)), "SECOND": tuple(f"G{i}" for i in range(30, 60))}
PARTS = {
    "train": draw(SIZES, 0),
    "validation": draw({"brain": 30, "liver": 20, "skin": 20}, 1),
    "test": draw({"brain": 48, "liver": 32, "skin": 4}, 2),
}


def means(table):
    return table[table["label"] == ""].groupby(["reference", "metric"])["value"].mean()


@pytest.fixture(scope="module")
def real():
    return SpaceReference.fit(PARTS, GENE_SETS, OPTIONS)


@pytest.fixture(scope="module")
def ceiling(real):
    return compare(real.train, real.test, real, OPTIONS, "landmarks")


@pytest.fixture(scope="module")
def oracle(real):
    fresh = real.measure(draw(SIZES, 7, donors=False))
    return compare(fresh, fresh, real, OPTIONS, "transcriptome")


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
    for table in (ceiling, oracle):
        assert list(table.columns) == COLUMNS
        assert (table["value"].isna() == (table["note"] != "")).all()


def test_fresh_draws_of_the_same_population_score_as_real_ones_do(ceiling, oracle):
    found, best = means(oracle), means(ceiling)
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


def test_draws_and_sizes_are_reported(ceiling):
    table = ceiling[ceiling["label"] == ""]
    count = table.groupby(["reference", "metric"])["draw"].count()
    assert count["test", "precision"] == 4
    assert count["test", "accuracy_mlp"] == 2
    assert count["test", "mmd_p"] == count["train", "copying"] == 1
    assert set(table.loc[table["metric"] == "recall", "n"]) == {84}


def test_bounds_hold_the_mean_of_the_draws(oracle):
    table = oracle[oracle["label"] == ""].dropna(subset="low")
    by = table.groupby(["reference", "metric"])[["value", "low", "high"]].mean()
    assert {"density", "adversarial_accuracy", "two_sample_boosted"} <= set(by.loc["test"].index)
    assert ((by["low"] < by["value"]) & (by["value"] < by["high"])).all()


def test_a_handful_of_profiles_has_no_precision_and_says_why(real):
    few = real.measure(draw({"brain": 12, "liver": 9, "skin": 4}, 9, donors=False))
    table = compare(few, few, real, OPTIONS, "transcriptome")
    precision = table.query("metric == 'precision' and reference == 'test' and label == ''")
    assert precision["value"].isna().all()
    assert precision["note"].str.startswith("25 profiles a side, fewer than 30").all()
    assert table.query("metric == 'spread'")["value"].notna().all()


def test_small_tissues_are_left_empty_with_the_reason(ceiling):
    tissues = ceiling[ceiling["label"] != ""].set_index(["metric", "label"]).sort_index()
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
    row = real.measure(profiles)
    table = compare(row, row, real, OPTIONS, "transcriptome")
    (note,) = set(table.loc[table["metric"].str.startswith("contrast_"), "note"])
    assert note == "these profiles have no sample_type: add it to the generator's `conditions`"
    without = compare(row, row, real, OPTIONS.model_copy(update={"contrast": None}), "transcriptome")
    assert not without["metric"].str.startswith("contrast_").any()


def test_real_donors_are_the_ceiling_of_training_on_real_and_synthetic(real, ceiling):
    found = means(ceiling)["test"]
    assert found["accuracy_mlp_augmented"] == found["accuracy_mlp"]
    wrong = real.measure(draw(SIZES, 7, lambda x, _: x[::-1], donors=False))
    made = means(compare(wrong, wrong, real, OPTIONS, "landmarks"))["test"]
    assert made["accuracy_mlp_augmented"] > made["accuracy_mlp"] + 0.1


def test_of_all_genes_copies_are_looked_for_among_so_many_profiles(real):
    options = OPTIONS.model_copy(update={"most_profiles": 40, "draws": 1})
    for space, expected in (("landmarks", len(real.train.labels)), ("transcriptome", 40)):
        table = compare(real.train, real.train, real, options, space)
        found = table.query("metric == 'copying'").iloc[0]
        assert (found["n"], found["value"]) == (expected, 1.0)


def test_of_large_sets_some_profiles_and_some_pairs_of_genes_stand_for_all(monkeypatch, ceiling):
    monkeypatch.setattr(references, "MOST", 60)
    large = SpaceReference.fit(PARTS, GENE_SETS, OPTIONS)
    assert [len(part.labels) for part in large.sampled.values()] == [59, 59, 58]
    assert len(large.pool.values) == 176
    assert len(large.compared) == 60
    table = compare(large.train, large.test, large, OPTIONS.model_copy(update={"draws": 2}), "landmarks")
    assert set(table["metric"]) == set(ceiling["metric"])
    n = table[table["label"] == ""].groupby("metric")["n"].max()
    assert n["copying"] == 58
    assert n["precision"] <= 58
    assert n["accuracy_mlp"] == 58
    rows = np.array([5, 0, 5])
    np.testing.assert_allclose(large.apart(rows), neighbour_distances(large.train.values, 1)[rows, 0], rtol=1e-5)
    copies = compare(large.train, large.train, large, FAST, "landmarks").set_index("metric")
    assert (copies.at["copying", "n"], copies.at["copying", "value"], copies.at["authenticity", "value"]) == (59, 1, 0)
    attacked = compare_records(large.train, large.train, large, 0).set_index("metric")
    assert attacked.at["gan_leaks_auc", "n"] == 58
    assert attacked.at["gan_leaks_auc", "value"] > 0.9


# --------------------------------------------------------------------------------- whole tables
@pytest.fixture(scope="module")
def reference():
    return EvaluationReference.fit(PARTS, PARTS, {}, FAST)


def test_runs_and_reconstructors_stand_in_one_table_and_are_loaded_one_at_a_time(reference):
    profiles = ad.concat([draw(SIZES, 20 + run, donors=False) for run in (1, 2)], merge="same")
    profiles.obs["run"] = np.repeat([1, 2], sum(SIZES.values()))
    loaded = []

    def load(name):
        assert all(found() is None for found in loaded), "the one before is still in memory"
        copy = profiles[profiles.obs["run"] == 1].copy()
        loaded.append(weakref.ref(copy))
        return copy

    table = score_generator("made", profiles, {n: partial(load, n) for n in ("ridge", "mlp")}, reference, FAST)
    assert list(table.columns) == SCORE_COLUMNS
    found = table.groupby(["space", "reconstructor"])["run"].unique().map(list).to_dict()
    assert found == {
        ("landmarks", NO_RECONSTRUCTOR): [1, 2], ("transcriptome", "ridge"): [1], ("transcriptome", "mlp"): [1],
    }  # fmt: skip
    assert not table.duplicated([*SCORE_COLUMNS[:8]]).any()
    privacy = table[table["metric"] == "dcr_ratio"]
    assert set(privacy["space"]) == {"landmarks"}
    assert set(privacy["reference"]) == {"train"}


def test_a_generator_without_profiles_has_an_empty_table(reference):
    nothing = draw(SIZES, 3, donors=False)[:0]
    table = score_generator("oracle", nothing, {NO_RECONSTRUCTOR: lambda: nothing}, reference, FAST)
    assert table.empty
    assert list(table.columns) == SCORE_COLUMNS


@pytest.fixture(scope="module")
def real_rows(reference):
    return score_real(reference, FAST)


def test_real_donors_are_compared_with_other_donors(real_rows):
    assert real_rows["generator"].unique().tolist() == ["real", "refit", "expected"]
    table = real_rows[real_rows["generator"] == "real"]
    found = table.set_index(["space", "reference", "metric"])["value"].groupby(level=[0, 1, 2]).mean()
    assert found["landmarks", "train", "copying"] == pytest.approx(0.01, abs=0.02)
    assert found["landmarks", "train", "dcr_ratio"] == pytest.approx(1, abs=0.1)


class Losses:
    """Losses that are lower for members from the second time on."""

    def per_profile_loss(self, profiles, seed, times, *, relative):
        noise = np.random.default_rng(seed).normal(size=(len(profiles), len(times)))
        return noise - 5 * profiles.obs_names.isin(PARTS["train"].obs_names)[:, None] * (np.arange(len(times)) > 0)


def test_the_loss_attack_has_a_row_for_every_model_and_every_time():
    table = score_white_box("denoiser", [Losses(), Losses()], PARTS["train"], PARTS["test"], OPTIONS, (0.04, 0.5))
    values = table.set_index(["run", "metric", "label"])["value"]
    for run in (1, 2):
        for attack in ("loss_attack", "loss_attack_relative"):
            assert values[run, f"{attack}_auc", "t=0.5"] > 0.95
            assert values[run, f"{attack}_auc", "t=0.04"] == pytest.approx(0.5, abs=0.12)
            assert values[run, f"{attack}_auc", ""] > 0.8
    assert set(table["label"]) == {"", "t=0.04", "t=0.5"}


def test_scores_that_do_not_fit_into_memory_are_refused(reference, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 100_000)
    with pytest.raises(NotEnoughMemoryError, match=r"scoring made in the space landmarks \(240 genes\)"):
        score_generator("made", PARTS["train"], {}, reference, FAST)


def test_scoring_says_that_it_measures_all_pairs(reference, monkeypatch):
    asked = []
    monkeypatch.setattr(scores, "require_memory", lambda what, needed, advice: asked.append(needed))
    space, made = reference["landmarks"], PARTS["train"]
    scores.require_room("made", space, made)
    both = Pool(space.measure(made).values, known=space.pool)
    assert asked[0] > space.pool.squares.nbytes + both.squares.nbytes


def test_one_tissue_is_scored_and_says_which_metrics_need_two(tmp_path):
    parts = {split: draw({"brain": size}, size) for split, size in (("train", 80), ("validation", 20), ("test", 40))}
    EvaluationReference.fit(parts, parts, {}, FAST).save(tmp_path / "reference")
    reference = EvaluationReference.load(tmp_path / "reference")
    made = score_generator("made", draw({"brain": 80}, 9, donors=False), {}, reference, FAST)
    table = pd.concat([score_real(reference, FAST), made]).query("label == '' and space == 'landmarks'")
    assert (table["value"].isna() == (table["note"] != "")).all()
    missing = table[table["generator"].isin(["real", "made"]) & table["note"].str.contains("two")]
    names = {"frechet_classifier", "accuracy_mlp", "auroc_logistic_augmented", "lfc_slope", "class_mean_r2"}
    assert {*names, "q_correlation"} <= set(missing["metric"])
    found = table[table["generator"] == "made"].groupby("metric")["value"].mean()
    for metric in ("precision", "spread", "two_sample_boosted", "edges_found_30", "module_density", "dcr_ratio"):
        assert np.isfinite(found[metric]), metric


# ---------------------------------------------------------------------------- rows beside `real`, and intervals
def of(real_rows, generator, space):
    """Values and bounds of a row by metric, against the first reference of each."""
    part = real_rows.query("label == '' and generator == @generator and space == @space")
    return part.drop_duplicates("metric").set_index("metric")[["value", "low", "high"]]


def test_expected_values_are_those_of_the_registry_and_of_the_sizes_of_tissues(real_rows):
    landmarks = of(real_rows, "expected", "landmarks")["value"]
    for metric in ADVERSARIAL:
        # 48, 32 and 4 profiles of tissues that are far apart
        assert landmarks[metric] == pytest.approx((48 * 47 / 95 + 32 * 31 / 63 + 4 * 3 / 7) / 84)
    assert of(real_rows, "expected", "transcriptome")["value"]["spread"] == 1
    assert "precision" not in landmarks
    assert set(landmarks.index) <= set(of(real_rows, "real", "landmarks").index)


def test_what_is_computed_once_has_an_interval_over_donors_in_the_row_real(real_rows):
    real = of(real_rows, "real", "landmarks")
    for metric in ("lfc_slope", "lfc_correlation", "contrast_lfc_correlation", "copying", "authenticity"):
        assert real["low"][metric] < real["value"][metric] < real["high"][metric], metric
    assert real["high"]["lfc_slope"] - real["low"]["lfc_slope"] < 0.3
