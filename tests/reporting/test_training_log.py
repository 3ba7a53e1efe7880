"""Curves and summaries of several runs."""

from __future__ import annotations

import pandas as pd
import pytest

from transcriptome_diffusion.reporting import training_log


def record(loss: float, **facts):
    curve = [
        {
            "step": step,
            "epoch": step / 10,
            "train_loss": loss / step,
            "validation_loss": 2 * loss / step,
            "kl": 0.1 * step,
            "validation_kl": 0.2 * step,
            "wasserstein": 3.0,
            "learning_rate": 1e-3,
            "seconds": step / 2,
        }
        for step in (10, 20)
    ]
    return {"curve": curve, "steps": 20, "best_step": 20, "seconds": 1.5, **facts}


@pytest.fixture
def records():
    return [record(1.0), record(2.0, stopped="the critic exploded at step 15")]


def test_curves_hold_every_point_of_every_run(records):
    table = training_log.curves("vae", records)
    assert table[["run", "step"]].to_numpy().tolist() == [[1, 10], [1, 20], [2, 10], [2, 20]]
    assert table.loc[3, "validation_loss"] == pytest.approx(0.2)
    assert (table["generator"] == "vae").all()


def test_the_summary_says_how_every_run_ended(records):
    table = training_log.summary("wgan_gp", records)
    assert table["generator"].tolist() == ["wgan_gp", "wgan_gp"]
    assert table["stopped"].tolist() == ["at its last step", "the critic exploded at step 15"]
    assert table["steps"].tolist() == [20, 20]
    assert table["latent_dimensions_in_use"].isna().all()


def test_the_figure_draws_every_term_of_every_run_with_its_validation_counterpart(records):
    figure = training_log.figure("vae", training_log.curves("vae", records))
    drawn = [trace for trace in figure.data if trace.name != "learning rate"]
    assert len(drawn) == 2 * 5
    panels = {trace.hovertemplate.partition(",")[0]: trace.yaxis for trace in drawn}
    assert panels["train loss"] == panels["validation loss"]
    assert panels["kl"] == panels["validation kl"]
    assert len({panels["kl"], panels["train loss"], panels["wasserstein"]}) == 3
    assert sum(bool(trace.showlegend) for trace in drawn) == 2
    assert "2 runs" in figure.layout.title.text


def test_a_single_run_without_further_terms_is_one_panel():
    table = pd.DataFrame([{"run": 1, "step": 1, "train_loss": 1, "validation_loss": 1, "learning_rate": 1e-3}])
    figure = training_log.figure("vae", table)
    assert {trace.yaxis for trace in figure.data} == {"y", "y2"}


def test_terms_of_other_generators_in_a_joint_table_are_no_panels(records):
    curves = pd.concat([training_log.curves("vae", records), training_log.curves("ddpm", records).drop(columns="kl")])
    own = training_log.figure("ddpm", curves[curves["generator"] == "ddpm"])
    assert "kl" not in {trace.hovertemplate.partition(",")[0] for trace in own.data if trace.hovertemplate}


def test_the_overview_has_a_panel_per_generator_and_one_diverged_point_does_not_set_its_range(records):
    steps = range(1, 101)
    curve = [{"step": step, "train_loss": 2 - step / 100, "validation_loss": 2.0} for step in steps]
    curve[60]["train_loss"] = 1e9
    long = training_log.curves("wgan_gp", [{"curve": curve}])
    plot = training_log.overview(pd.concat([training_log.curves("vae", records), long]))
    assert [note.text for note in plot.layout.annotations] == ["vae", "wgan_gp"]
    assert len([trace for trace in plot.data if trace.yaxis == "y"]) == 4  # two losses of two runs
    assert [trace.name for trace in plot.data if trace.showlegend] == ["training donors", "validation donors"]
    low, high = plot.layout.yaxis2.range
    assert 0.8 < low < 1.0
    assert 2.0 < high < 4.0
    low, high = plot.layout.yaxis.range
    assert low < 0.05
    assert high > 0.4  # nothing is cut off where no value is far from the others
