import numpy as np
import pandas as pd
import pytest
import scipy.stats

from transcriptome_diffusion.metrics.statistics import auc
from transcriptome_diffusion.reporting.scorecard import (
    COLUMNS,
    DRAW_COLUMNS,
    HEADLINE,
    HEADS,
    NORMAL,
    POWER,
    TISSUE_COLUMNS,
    as_text,
    cell,
    collect,
    deviations,
    marks,
    role,
    smallest_differences,
    summarise,
    wide,
)


def draws(
    generator, metric, values, reference="test", run=1, reconstructor="none", bounds=(np.nan, np.nan), note="", label=""
):
    return pd.DataFrame(
        {
            "generator": generator, "reconstructor": reconstructor, "space": "landmarks", "reference": reference,
            "metric": metric,
            "run": run, "draw": range(len(values)), "value": values, "n": 100,
            "low": bounds[0], "high": bounds[1], "note": note, "label": label,
        }
    )  # fmt: skip


def summarise_all(parts):
    return summarise(pd.concat(parts, ignore_index=True))


@pytest.fixture
def table():
    return summarise_all(
        [
            draws("real", "density", [0.9, 1.1]),
            draws("class_gaussian", "density", [0.7, 0.7]),
            draws("class_kde", "density", [0.8, 0.8]),
            draws("ddpm", "density", [1.1, 1.15]),
            draws("ddim", "density", [1.4, 1.5]),
            draws("ddim", "copying", [0.02], reference="train"),
        ]
    )


def test_draws_of_one_run_are_summed_up_with_their_spread_and_size(table):
    assert list(table.columns) == COLUMNS
    real = table.query("generator == 'real'").iloc[0]
    assert real["mean"] == pytest.approx(1.0)
    assert real["sd"] == pytest.approx(np.std([0.9, 1.1], ddof=1))
    assert (real["runs"], real["n"]) == (1, 100)


def test_the_spread_of_several_runs_is_that_between_their_means():
    parts = [draws("ddpm", "density", values, run=run) for run, values in enumerate([[0.8, 1.0], [1.2, 1.4], [1.0]])]
    row = summarise_all(parts).iloc[0]
    assert row["mean"] == pytest.approx(np.mean([0.9, 1.3, 1.0]))
    assert row["sd"] == pytest.approx(np.std([0.9, 1.3, 1.0], ddof=1))
    assert row["runs"] == 3


def test_a_single_draw_has_no_spread(table):
    assert np.isnan(table.query("metric == 'copying'")["sd"].iloc[0])


def test_bounds_of_several_runs_are_the_mean_of_theirs_and_a_bound_that_one_lacks_is_missing():
    parts = [draws("ddpm", "recall", [0.8, 0.9], run=run, bounds=(0.7 + run / 100, 0.95)) for run in (1, 3)]
    row = summarise_all(parts).iloc[0]
    assert (row["low"], row["high"]) == pytest.approx((0.72, 0.95))
    assert np.isnan(summarise_all([*parts, draws("ddpm", "recall", [1.0], run=4)]).iloc[0]["low"])


def test_a_missing_value_keeps_its_reason():
    row = summarise_all([draws("ddpm", "recall", [np.nan], note="12 profiles a side")]).iloc[0]
    assert np.isnan(row["mean"])
    assert (row["runs"], row["note"]) == (1, "12 profiles a side")


def card(**values):
    """One indicator; of every row its mean and standard deviation."""
    rows = [
        {"generator": name, "space": "landmarks", "reference": "test", "metric": "density", "mean": mean, "sd": sd}
        for name, (mean, sd) in values.items()
    ]
    return pd.DataFrame(rows).assign(runs=1, n=100, reconstructor="none", low=np.nan, high=np.nan, note="")


def marked(**values):
    return marks(card(real=(1.0, 0.01), **values), "landmarks", "test")["density"].to_dict()


def test_the_generator_closest_to_real_is_best_and_beyond_the_ceiling_is_not_better():
    found = marked(class_gaussian=(0.7, 0.01), class_kde=(0.8, 0.01), ddpm=(1.1, 0.01), ddim=(1.4, 0.01))
    assert found == {"real": "", "class_gaussian": "", "class_kde": "", "ddpm": "best", "ddim": ""}


def test_generators_within_the_noise_of_the_closest_share_the_mark():
    found = marked(class_kde=(0.7, 0.01), ddpm=(0.9, 0.02), ddim=(0.85, 0.02), vae=(0.8, 0.02))
    assert found == {"real": "", "class_kde": "", "ddpm": "shared", "ddim": "shared", "vae": ""}  # noise .057


@pytest.mark.parametrize(("floor", "mark"), [(0.86, ""), (0.80, "best")])
def test_nobody_is_marked_within_the_noise_of_a_floor(floor, mark):
    assert marked(class_gaussian=(0.5, 0.01), class_kde=(floor, 0.02), ddpm=(0.9, 0.02))["ddpm"] == mark


def test_a_row_within_the_noise_of_real_says_so_whoever_it_is():
    found = marked(class_kde=(0.7, 0.01), memoriser=(1.02, 0.01), ddpm=(0.98, 0.01))
    assert found == {"real": "", "class_kde": "", "memoriser": "real", "ddpm": "best real"}


def test_without_a_deviation_the_interval_stands_in_and_without_either_nothing_is_told_apart():
    table = card(real=(1.0, np.nan), class_kde=(0.7, np.nan), ddpm=(0.9, np.nan))
    assert not marks(table, "landmarks", "test").to_numpy().any()
    table["low"], table["high"] = table["mean"] - 0.01 * NORMAL, table["mean"] + 0.01 * NORMAL
    assert deviations(table, "landmarks", "test")["density"].tolist() == pytest.approx([0.01] * 3)
    assert marks(table, "landmarks", "test").at["ddpm", "density"] == "best"


def test_equal_generators_are_hardly_ever_called_better_than_a_floor():
    rng = np.random.default_rng(0)
    names, trials = ["class_gaussian", "class_kde", "vae", "wgan_gp", "ddpm"], [f"trial {i}" for i in range(100)]
    tables = [
        card(real=(1.0, 0.01), **{name: (float(rng.normal(0.9, 0.02)), 0.02) for name in names}).assign(metric=trial)
        for trial in trials
    ]
    found = marks(pd.concat(tables, ignore_index=True), "landmarks", "test", trials)
    assert found.shape == (6, 100)
    assert (found != "").any().mean() < 0.12  # each of three generators against both floors


def test_p_values_and_indicators_without_floors_are_not_marked():
    table = card(real=(0.5, 0.01), class_kde=(0.01, 0.01), ddpm=(0.4, 0.01)).assign(metric="mmd_p")
    assert not marks(table, "landmarks", "test", ["mmd_p"]).to_numpy().any()
    assert marked(ddpm=(0.9, 0.01))["ddpm"] == ""


def test_reconstructors_are_rows_of_their_own_and_floors_stay_floors():
    table = summarise_all(
        [
            draws("real", "density", [0.99, 1.01]),
            draws("class_gaussian", "density", [0.69, 0.71], reconstructor="ridge"),
            draws("class_gaussian", "density", [0.89, 0.91], reconstructor="direct"),
            draws("ddpm", "density", [0.79, 0.81], reconstructor="ridge"),
            draws("ddpm", "density", [1.01, 1.03], reconstructor="ridge_noise"),
        ]
    )
    means = wide(table, "landmarks", "test")
    assert list(means.index[1:]) == [
        "class_gaussian + ridge",
        "class_gaussian + direct",
        "ddpm + ridge",
        "ddpm + ridge_noise",
    ]
    found = marks(table, "landmarks", "test")["density"]
    assert found[found.str.contains("best")].index.tolist() == ["ddpm + ridge_noise"]


def test_copying_stands_beside_indicators_against_held_out_donors_and_notes_are_kept(table):
    assert wide(table, "landmarks", "test").at["ddim", "copying"] == pytest.approx(0.02)
    empty = summarise_all([draws("ddim", "density", [np.nan], note="too few")])
    assert wide(empty, "landmarks", "test", "note").at["ddim", "density"] == "too few"


def test_privacy_is_a_row_like_any_other_and_shown_beside_the_headline():
    areas = [
        draws("real", "domias_gaussian_auc", [0.5], "train", bounds=(0.4, 0.6)),
        draws("ddpm", "domias_gaussian_auc", [0.8], "train", run=1, bounds=(0.7, 0.9)),
        draws("ddpm", "domias_gaussian_auc", [0.9], "train", run=2, bounds=(0.8, 1.0)),
    ]
    table = summarise(collect([*areas, draws("real", "density", [1.0])])[0])
    rows = table.query("metric == 'domias_gaussian_auc'").set_index("generator")
    assert rows.at["ddpm", "mean"] == pytest.approx(0.85)
    assert rows.at["ddpm", "sd"] == pytest.approx(np.std([0.8, 0.9], ddof=1))
    assert (rows.at["ddpm", "runs"], rows.at["ddpm", "low"]) == (2, pytest.approx(0.75))
    assert np.isnan(rows.at["real", "sd"])
    assert wide(table, "landmarks", "test").at["real", "domias_gaussian_auc"] == 0.5


@pytest.mark.parametrize("empty", ["", np.nan])
def test_labelled_values_are_no_part_of_the_scorecard_and_come_from_the_first_run(empty):
    parts = [
        draws("ddpm", "recall", [0.8, 0.6], label=empty),
        draws("ddpm", "recall", [0.1], run=1, label="lung", bounds=(0.0, 0.2), note="few"),
        draws("ddpm", "recall", [0.9], run=2, label="lung"),
        draws("ddpm", "loss_attack_auc", [0.7], "train", label="t=0.04"),
        draws("oracle", "recall", []),
    ]
    single, by_tissue = collect(parts)
    table = summarise(single)
    assert list(single.columns) == DRAW_COLUMNS
    assert list(by_tissue.columns) == TISSUE_COLUMNS
    assert table[["metric", "mean", "runs"]].to_numpy().tolist() == [["recall", 0.7, 1]]
    assert single["value"].tolist() == [0.8, 0.6]
    assert by_tissue[["label", "value"]].to_numpy().tolist() == [["lung", 0.1], ["t=0.04", 0.7]]
    assert by_tissue.iloc[0][["low", "high", "note"]].tolist() == [0.0, 0.2, "few"]


def test_floors_are_what_the_registry_calls_floors():
    assert [role(row) for row in ("class_kde", "class_gaussian + ridge", "vae", "real")] == [
        "floor",
        "floor",
        "",
        "ceiling",
    ]


def test_cells_are_short():
    assert cell(-2.34e-5, 1e-4) == "-2.3e-05 ±1.0e-04"
    assert [cell(0.96249, 0.0111), cell(235.6, 51.18), cell(0.5, np.nan), cell(np.nan, 0.1)] == [
        "0.962 ±0.011",
        "235.60 ±51.18",
        "0.500",
        "–",
    ]


def test_the_text_shows_every_row_and_the_size(table):
    text = as_text(table, "landmarks", width=80)
    assert "100 profiles a side" in text
    assert [line.split()[0] for line in text.splitlines()[2:]] == [
        "real",
        "class_gaussian",
        "class_kde",
        "ddpm",
        "ddim",
        "smallest",
    ]
    assert "1.125 ±.035" in text


def full_card():
    """All indicators of the headline; the value of each is its place among them."""
    rows = [
        {"generator": name, "reference": reference, "metric": metric, "mean": place, "sd": 0.01}
        for name in ("real", "class_gaussian", "flow_matching")
        for reference in ("test", "train")
        for place, metric in enumerate(HEADLINE["test"])
        if (reference == "train") == (metric in ("copying", "domias_gaussian_auc"))
    ]
    return pd.DataFrame(rows).assign(
        space="landmarks",
        runs=2,
        n=100,
        reconstructor="none",
        low=np.nan,
        high=np.nan,
        smallest_difference=0.1,
        note="",
    )


@pytest.mark.parametrize(("width", "columns"), [(80, 5), (100, 6), (250, 13), (20, 1)])
def test_the_text_is_as_wide_as_the_terminal_allows_and_keeps_the_most_telling_columns(width, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    _, head, *rows, power = as_text(full_card(), "landmarks").splitlines()
    shown = [metric for metric in HEADLINE["test"] if HEADS[metric] in head]
    assert len(shown) == columns
    assert shown == sorted(shown, key=HEADLINE["test"].index)
    assert set(shown) == set([*HEADS][:columns])
    assert len({len(line) for line in (head, *rows, power)}) == 1
    assert power.split() == ["smallest", "diff."] + ["0.100"] * columns
    assert len(head) <= max(width, 30)
    for row in rows:
        values = [float(value) for value in row.split()[1::2]]
        assert values == [HEADLINE["test"].index(metric) for metric in shown]


# ------------------------------------------------------------------------------------------------- power
def power(**values):
    """``smallest_differences`` by row; of every row mean, sd, low and high."""
    table = card(**{name: part[:2] for name, part in values.items()})
    table["low"], table["high"] = zip(*(part[2:] for part in values.values()), strict=True)
    return smallest_differences(table).set_axis(table["generator"]).to_dict()


def test_the_smallest_difference_is_that_of_a_z_test_with_a_power_of_80_percent():
    found = power(real=(0.5, 0.02, np.nan, np.nan), ddpm=(0.6, 0.02, 0.6 - 0.03 * NORMAL, 0.6 + 0.03 * NORMAL))
    assert found["real"] == pytest.approx((1.959964 + 0.841621) * np.sqrt(2) * 0.02)
    assert found["ddpm"] == pytest.approx((1.959964 + 0.841621) * np.hypot(0.03, 0.02))


def test_a_row_without_deviation_is_as_uncertain_as_real_and_p_values_have_none():
    found = power(real=(0.5, 0.02, np.nan, np.nan), vae=(0.6, *[np.nan] * 3), ddpm=(np.nan, 0.1, np.nan, np.nan))
    assert found["vae"] == found["real"]
    assert np.isnan(found["ddpm"])
    table = card(real=(0.5, 0.02), ddpm=(0.1, 0.02))
    assert smallest_differences(table.assign(metric="mmd_p")).isna().all()
    assert smallest_differences(table[table["generator"] != "real"]).isna().all()


def test_trainings_that_differ_make_the_smallest_difference_larger():
    bounds = (0.6 - 0.03 * NORMAL, 0.6 + 0.03 * NORMAL)
    table = card(real=(0.5, 0.02), ddpm=(0.6, 0.06)).assign(low=bounds[0], high=bounds[1])
    found = [smallest_differences(table.assign(runs=runs)).iloc[1] for runs in (1, 4)]
    assert found == pytest.approx([2.801585 * np.hypot(0.03, 0.03), 2.801585 * np.sqrt(0.03**2 * 3 + 0.01**2)])


def test_of_areas_under_the_curve_a_difference_of_this_size_is_found_in_80_percent_of_all_samples():
    n, samples, rng = 60, 400, np.random.default_rng(0)
    positive = np.repeat([1, 0], n)

    def row(sample, name, shift):
        area, variance = auc(rng.normal(size=2 * n) + shift * positive, positive)
        half = NORMAL * np.sqrt(variance)
        return {"space": sample, "generator": name, "mean": area, "low": area - half, "high": area + half}

    # the area of two normal distributions that are so far apart, from the closed form of the variance at .5
    size = 2.801585 * np.sqrt(2 * (2 * n + 1) / (12 * n * n))
    shift = np.sqrt(2) * scipy.stats.norm.ppf(0.5 + size)
    rows = [row(i, *which) for i in range(samples) for which in (("real", 0), ("ddpm", shift))]
    table = pd.DataFrame(rows).assign(reference="test", metric="two_sample_logistic", sd=np.nan, runs=1)
    needed = smallest_differences(table).to_numpy()[1::2]
    differences = table["mean"].to_numpy()[1::2] - table["mean"].to_numpy()[::2]
    assert needed.mean() == pytest.approx(size, rel=0.08)
    assert (differences > needed * NORMAL / (NORMAL + POWER)).mean() == pytest.approx(0.8, abs=0.06)
