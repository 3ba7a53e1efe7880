import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.reporting.scorecard import COLUMNS, as_text, closer_than_floors, collect, wide


def draws(generator, metric, values, reference="test", run=1, way="none", bounds=(np.nan, np.nan), note=""):
    return pd.DataFrame(
        {
            "generator": generator, "reconstructor": way, "space": "landmarks", "reference": reference,
            "metric": metric,
            "run": run, "draw": range(len(values)), "value": values, "n": 100,
            "low": bounds[0], "high": bounds[1], "note": note,
        }
    )  # fmt: skip


@pytest.fixture
def table():
    return collect(
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
    row = collect(parts).iloc[0]
    assert row["mean"] == pytest.approx(np.mean([0.9, 1.3, 1.0]))
    assert row["sd"] == pytest.approx(np.std([0.9, 1.3, 1.0], ddof=1))
    assert row["runs"] == 3


def test_a_single_draw_has_no_spread(table):
    assert np.isnan(table.query("metric == 'copying'")["sd"].iloc[0])


def test_bounds_of_several_runs_are_the_mean_of_theirs_and_a_bound_that_one_lacks_is_missing():
    parts = [draws("ddpm", "recall", [0.8, 0.9], run=run, bounds=(0.7 + run / 100, 0.95)) for run in (1, 3)]
    row = collect(parts).iloc[0]
    assert (row["low"], row["high"]) == pytest.approx((0.72, 0.95))
    assert np.isnan(collect([*parts, draws("ddpm", "recall", [1.0], run=4)]).iloc[0]["low"])


def test_a_missing_value_keeps_its_reason():
    row = collect([draws("ddpm", "recall", [np.nan], note="12 profiles a side")]).iloc[0]
    assert np.isnan(row["mean"])
    assert (row["runs"], row["note"]) == (1, "12 profiles a side")


def test_beating_the_floors_means_being_closer_to_real_not_higher(table):
    better = closer_than_floors(wide(table, "landmarks", "test"))
    assert better.at["ddpm", "density"]
    assert not better.at["ddim", "density"]  # as far above the ceiling as a shrunken generator gets
    assert not better.loc[["real", "class_gaussian", "class_kde"]].to_numpy().any()


def test_ways_to_the_transcriptome_are_rows_of_their_own_and_floors_stay_floors():
    table = collect(
        [
            draws("real", "density", [1.0]),
            draws("class_gaussian", "density", [0.7], way="ridge"),
            draws("class_gaussian", "density", [0.9], way="direct"),
            draws("ddpm", "density", [0.8], way="ridge"),
            draws("ddpm", "density", [1.02], way="ridge_noise"),
        ]
    )
    means = wide(table, "landmarks", "test")
    assert list(means.index[1:]) == [
        "class_gaussian + ridge",
        "class_gaussian + direct",
        "ddpm + ridge",
        "ddpm + ridge_noise",
    ]
    better = closer_than_floors(means)["density"]
    assert better[better].index.tolist() == ["ddpm + ridge_noise"]


def test_the_text_shows_every_row_and_the_size(table):
    text = as_text(table, "landmarks")
    assert "100 profiles a side" in text
    assert all(name in text for name in ("real", "class_gaussian", "class_kde", "ddpm", "ddim"))
    assert "1.125 ±0.035" in text
