"""The low-sample experiment: few profiles by donor, methods with known answers, and who sees whom."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.stats

from transcriptome_diffusion.experiments.augmentation import (
    few_of_both,
    few_profiles,
    from_generator,
    gains,
    oversample,
    references,
    score,
    smote,
    train_classifiers,
)
from transcriptome_diffusion.experiments.options import AugmentationOptions
from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.expression.scaling import GeneScaler
from transcriptome_diffusion.generators.class_gaussian import ClassGaussian
from transcriptome_diffusion.generators.options import ClassGaussianOptions
from transcriptome_diffusion.metrics.neighbours import distance_blocks
from transcriptome_diffusion.metrics.options import ClassifierOptions
from transcriptome_diffusion.metrics.profile_set import ProfileSet
from transcriptome_diffusion.metrics.utility import reverse_validation
from transcriptome_diffusion.training import TrainingDivergedError

GENES = 40
OPTIONS = AugmentationOptions(
    profiles_per_label=[6, None],
    ratios=[4, 1],
    seeds=[0, 1],
    classifier=ClassifierOptions(hidden=[16], epochs=15, batch_size=32, seeds=[0]),
)


def cohort(seed: int, n: int = 120, gap: float = 0.8, prefix: str = "d") -> ad.AnnData:
    """Three tissues, two profiles of most donors; the tissues are ``gap`` apart in a third of the genes."""
    means = gap * (np.random.default_rng(50).random((3, GENES)) < 0.33)
    rng = np.random.default_rng(seed)
    codes = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    obs = pd.DataFrame(
        {
            "tissue": [f"tissue {c}" for c in codes],
            "donor": [f"{prefix}{i // 2}" for i in range(n)],
            "study": "mine",
        },
        index=[f"{prefix}-{i}" for i in range(n)],
    )
    var = pd.DataFrame({"symbol": [f"G{i}" for i in range(GENES)]}, index=[f"G{i}" for i in range(GENES)])
    return make_profiles(5 + means[codes] + rng.normal(0, 1, (n, GENES)), obs, var, "log2(CPM + 1)")


@pytest.fixture(scope="module")
def parts():
    return cohort(0), cohort(1, 30, prefix="v"), cohort(2, 200, prefix="t")


# --------------------------------------------------------------------------------------- few real profiles
def test_few_profiles_are_as_many_as_asked_nested_and_by_donor(parts):
    train = parts[0]
    small, large = (few_profiles(train, n, "tissue", seed=3) for n in (5, 12))
    assert small.obs["tissue"].value_counts().to_dict() == {f"tissue {i}": 5 for i in range(3)}
    assert set(small.obs_names) < set(large.obs_names)
    assert set(few_profiles(train, 5, "tissue", seed=4).obs_names) != set(small.obs_names)
    # a donor's second profile of a tissue is left out only if the tissue was full by then
    for tissue, part in small.obs.groupby("tissue", observed=True):
        counts = part["donor"].value_counts()
        whole = train.obs[train.obs["tissue"] == tissue]["donor"].value_counts()
        assert (counts[counts < whole[counts.index]]).size <= 1


def test_all_profiles_and_scarce_tissues_are_taken_as_they_are(parts):
    train = parts[0]
    assert few_profiles(train, None, "tissue", seed=0) is train
    scarce = int((train.obs["tissue"] == "tissue 2").sum())
    counts = few_profiles(train, scarce + 5, "tissue", seed=0).obs["tissue"].value_counts()
    assert counts["tissue 2"] == scarce
    assert counts["tissue 0"] == scarce + 5


def test_validation_shrinks_in_proportion(parts):
    few, seen = few_of_both(*parts[:2], 8, "tissue", seed=0)
    assert few.n_obs == 24
    assert seen.obs["tissue"].value_counts().to_dict() == {f"tissue {i}": 2 for i in range(3)}
    assert few_of_both(*parts[:2], 2, "tissue", seed=0)[1].n_obs == 3  # one of each at least


# ------------------------------------------------------------------------------------------------- methods
def wanted(train: ad.AnnData, times: int) -> pd.DataFrame:
    return pd.concat([train.obs] * times, ignore_index=True)


def test_oversampling_repeats_profiles_of_the_same_tissue(parts):
    train = parts[0]
    labels = wanted(train, 3)
    drawn = oversample(train, None, labels, 0, label="tissue")
    rows = {profile.tobytes(): tissue for profile, tissue in zip(train.X, train.obs["tissue"], strict=True)}
    assert [rows[profile.tobytes()] for profile in drawn] == labels["tissue"].tolist()
    assert len(np.unique(drawn, axis=0)) > 100


def test_smote_is_chawlas_formula(parts):
    """x + u (y - x), y one of the k nearest of x in its class, u uniform: solved for u over all candidate pairs."""
    train, k = parts[0], 4
    labels = wanted(train, 5)
    drawn = smote(train, None, labels, 0, label="tissue", neighbours=k).astype(np.float64)
    z = GeneScaler.fit(train.X)(train.X).astype(np.float64)
    tissues = train.obs["tissue"].to_numpy()
    found, bases, ranks = [], [], []
    for tissue in np.unique(tissues):
        ours = np.flatnonzero(tissues == tissue)
        distances = np.concatenate([block for _, block in distance_blocks(z[ours], z[ours])])
        nearest = np.argsort(distances, axis=1)[:, 1 : k + 1]  # the first is the profile itself
        x = np.repeat(train.X[ours].astype(np.float64), k, axis=0)
        step = train.X[ours[nearest.ravel()]].astype(np.float64) - x
        length = np.square(step).sum(axis=1)
        for point in drawn[(labels["tissue"] == tissue).to_numpy()]:
            u = ((point - x) * step).sum(axis=1) / length
            miss = np.square(point - x - u[:, None] * step).sum(axis=1)
            best = int(miss.argmin())
            assert miss[best] < 1e-8  # it lies on one of the published segments
            found.append(u[best])
            bases.append(ours[best // k])
            ranks.append(best % k)
    assert min(found) > -1e-5
    assert max(found) < 1 + 1e-5
    # a pair that are each other's neighbour is one segment with two directions; u is uniform either way
    assert scipy.stats.kstest(found, "uniform").pvalue > 0.001
    assert len(set(bases)) > 100
    assert set(ranks) == set(range(k))


def test_with_every_profile_a_neighbour_smote_keeps_two_thirds_of_the_variance():
    train = cohort(5, 400)
    drawn = smote(train, None, wanted(train, 20), 0, label="tissue", neighbours=10_000)
    tissue = (train.obs["tissue"] == "tissue 0").to_numpy()
    ratio = drawn[np.tile(tissue, 20)].var(axis=0).mean() / train.X[tissue].var(axis=0).mean()
    assert ratio == pytest.approx(2 / 3, abs=0.02)


def test_a_single_profile_of_a_tissue_is_repeated_and_an_unknown_tissue_is_named(parts):
    train = parts[0]
    one = np.flatnonzero(train.obs["tissue"] == "tissue 1")[:1]
    lone = train[np.concatenate([np.flatnonzero(train.obs["tissue"] == "tissue 0"), one])].copy()
    labels = pd.DataFrame({"tissue": ["tissue 1"] * 4})
    np.testing.assert_array_equal(smote(lone, None, labels, 0, label="tissue"), np.repeat(train.X[one], 4, axis=0))
    with pytest.raises(ValueError, match="no training profile has the tissue 'skin'"):
        oversample(train, None, pd.DataFrame({"tissue": ["skin"]}), 0, label="tissue")


# ---------------------------------------------------------------------------------------------- experiment
def test_a_generator_is_fitted_on_the_few_profiles_alone_and_asked_for_their_labels(parts):
    train, validation, _ = parts
    seen = []

    def spy(few, watched, labels, seed):
        seen.append((set(few.obs_names), set(watched.obs_names), len(labels), seed))
        # the labels are those of the few profiles, over and over
        assert labels["tissue"].tolist() == few.obs["tissue"].tolist() * 4
        return oversample(few, watched, labels, seed, label="tissue")

    found = list(train_classifiers("spy", spy, train, validation, OPTIONS))
    assert [len(names) for names, *_ in seen] == [18, 120, 18, 120]
    for names, watched, wished, seed in seen:
        few, few_seen = few_of_both(train, validation, 6 if len(names) == 18 else None, "tissue", seed)
        assert names == set(few.obs_names)
        assert watched == set(few_seen.obs_names)
        assert wished == 4 * len(names)
    places = [(one.n_per_tissue, one.ratio, one.seed, one.kind) for one in found]
    assert places == [
        (size, ratio, seed, kind)
        for seed in (0, 1)
        for size in ("6", "all")
        for ratio in (1, 4)
        for kind in ("mlp", "logistic")
    ]


def test_real_profiles_alone_reach_what_reverse_validation_says(parts):
    train, validation, test = parts
    options = OPTIONS.model_copy(update={"profiles_per_label": [None], "seeds": [0]})
    table = score(train_classifiers("none", None, train, validation, options), test)
    scaler = GeneScaler.fit(train.X)
    labelled = [ProfileSet(scaler(part.X), part.obs["tissue"].to_numpy()) for part in parts]
    expected = reverse_validation(*labelled, options.classifier)
    assert set(table["metric"]) == set(expected)
    for metric, value in zip(table["metric"], table["value"], strict=True):
        assert value == pytest.approx(expected[metric][0], abs=0.006), metric
    assert set(table["ratio"]) == {0}
    assert set(table["real_profiles"]) == {120}


def test_two_tissues_are_told_apart_as_well_as_many(parts):
    two = [part[part.obs["tissue"] != "tissue 2"].copy() for part in parts]
    options = OPTIONS.model_copy(update={"profiles_per_label": [None], "seeds": [0]})
    table = score(train_classifiers("none", None, *two[:2], options), two[2]).set_index("metric")
    scaler = GeneScaler.fit(two[0].X)
    labelled = [ProfileSet(scaler(part.X), part.obs["tissue"].to_numpy()) for part in two]
    expected = reverse_validation(*labelled, options.classifier)
    for metric in ("accuracy_logistic", "auroc_logistic"):
        assert table.at[metric, "value"] == pytest.approx(expected[metric][0], abs=0.006)


def oracle(few, watched, labels, seed):
    """Fresh draws of the population, in the order of the labels: what no generator can beat."""
    pool = cohort(1000 + seed, 20 * len(labels))
    drawn = np.empty((len(labels), GENES), dtype=np.float32)
    for tissue in labels["tissue"].unique():
        mine = (labels["tissue"] == tissue).to_numpy()
        drawn[mine] = pool.X[(pool.obs["tissue"] == tissue).to_numpy()][: mine.sum()]
    return drawn


def misled(few, watched, labels, seed):
    """Fresh draws under the wrong label."""
    return oracle(few, watched, labels.assign(tissue=np.roll(sorted(labels["tissue"]), 9)), seed)


def test_an_oracle_gains_where_profiles_are_few_copies_gain_nothing_and_wrong_labels_harm(parts):
    train, validation, test = parts
    options = OPTIONS.model_copy(update={"ratios": [20], "seeds": [0, 1, 2], "classifiers": ["logistic"]})
    methods = references(options, "tissue") | {"oracle": oracle, "misled": misled}
    methods["class_gaussian"] = from_generator(ClassGaussian, ClassGaussianOptions())
    table = pd.concat(
        [score(train_classifiers(name, how, train, validation, options), test) for name, how in methods.items()]
    )
    found = gains(table).query("metric == 'auroc_logistic'").set_index(["method", "n_per_tissue"])["gain"]
    assert found["oracle", "6"] > 0.08
    assert found["oracle", "all"] < found["oracle", "6"]
    assert abs(found["oversampling", "6"]) < 0.02
    assert found["misled", "6"] < -0.05
    assert found["smote", "6"] < found["oracle", "6"] / 2
    assert found["class_gaussian", "6"] < found["oracle", "6"]


def test_gains_are_means_of_differences_within_a_seed():
    def row(method, ratio, seed, value):
        return {
            "method": method, "n_per_tissue": "5", "ratio": ratio, "seed": seed, "metric": "accuracy_mlp",
            "value": value,
        }  # fmt: skip

    table = pd.DataFrame([row("none", 0, 0, 0.5), row("none", 0, 1, 0.7), row("a", 2, 0, 0.6), row("a", 2, 1, 1.0)])
    found = gains(table).iloc[0]
    assert found["mean"] == pytest.approx(0.8)
    assert found["gain"] == pytest.approx(0.2)
    assert found["sd"] == pytest.approx(np.std([0.1, 0.3], ddof=1))


def test_the_same_seeds_give_the_same_table(parts):
    train, validation, test = parts
    options = OPTIONS.model_copy(update={"seeds": [1], "profiles_per_label": [6]})
    how = references(options, "tissue")["smote"]
    first, second = (score(train_classifiers("smote", how, train, validation, options), test) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_a_training_that_breaks_down_leaves_rows_without_a_value_that_say_why(parts):
    train, validation, test = parts

    def broken(few, watched, labels, seed):
        raise TrainingDivergedError("the loss is NaN.")

    table = score(train_classifiers("broken", broken, train, validation, OPTIONS), test)
    assert table["value"].isna().all()
    assert (table["note"] == "training broke down: the loss is NaN.").all()
    assert set(table["ratio"]) == {1, 4}


def test_wrong_profiles_are_named(parts):
    train, validation, _ = parts
    with pytest.raises(ValueError, match=r"short returned profiles \(5, 40\)"):
        list(train_classifiers("short", lambda *_: np.zeros((5, GENES)), train, validation, OPTIONS))
    with pytest.raises(ValueError, match="288"):
        list(train_classifiers("nan", lambda f, v, o, s: np.full((len(o), 4), np.nan), train, validation, OPTIONS))
    with pytest.raises(ValueError, match="genes of the model are missing"):
        list(train_classifiers("none", None, train, validation[:, :10].copy(), OPTIONS))
    with pytest.raises(ValueError, match="two profiles of a label"):
        AugmentationOptions(profiles_per_label=[1])
