"""The study's tables from known single values, the paper's values beside them, and the report."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.generators.registry import GENERATORS
from transcriptome_diffusion.reconstruction import RECONSTRUCTORS
from transcriptome_diffusion.reporting import study
from transcriptome_diffusion.reporting.scorecard import summarise

ROWS = [
    ("real", "none", "landmarks"),
    ("ddim", "none", "landmarks"),
    ("real", "none", "transcriptome"),
    ("ddim", "mlp", "transcriptome"),
    ("ddim", "ridge_noise", "transcriptome"),
]


def single(metrics=("recall", "density", "frechet_classifier", "accuracy_mlp"), runs=2, draws=3):
    """Single values of the scorecard; the value is 10 run + draw."""
    rows = [
        (*row, reference, metric, run, draw, 10.0 * run + draw, 50, np.nan, np.nan, "")
        for row in ROWS
        for metric in metrics
        for reference in ("test", "train")
        for run in range(1, 1 + (1 if row[0] == "real" else runs))
        for draw in range(draws)
    ]
    names = ["generator", "reconstructor", "space", "reference", "metric", "run", "draw", "value", "n"]
    return pd.DataFrame(rows, columns=[*names, "low", "high", "note"])


@pytest.fixture
def scorecard():
    return summarise(single())


def draws_of(name, steps=(50, 1000)):
    rows = [
        (name, number, reference, metric, run, draw, number + 10.0 * run + draw, 50, "cpu (x86_64, 1 threads)")
        for number in steps
        for reference, metric in (
            ("train", "recall"),
            ("test", "recall"),
            ("none", "seconds"),
            ("none", "seconds_per_1000"),
        )
        for run in (1, 2)
        for draw in range(2 if metric == "recall" else 1)
    ]
    return pd.DataFrame(
        rows, columns=["generator", "steps", "reference", "metric", "run", "draw", "value", "n", "device"]
    )


# ------------------------------------------------------------------------------------- the published values
def test_no_two_published_values_fall_on_one_row_and_all_name_their_source():
    table = study.published()
    assert not table.duplicated(["table", "cohort", *study.KEYS]).any()
    assert table["source"].str.contains("doi:10.1186/s12859-026-06470-8").all()
    assert set(table["cohort"]) == {"gtex", "tcga"}
    assert set(table["table"]) == {"paper_protocol", "samplers", "cost"}
    assert set(table["generator"]) <= {*GENERATORS, "real", "denoiser"}
    assert set(table["reconstructor"]) <= {*RECONSTRUCTORS, "none", "direct"}


def test_published_f1_is_the_harmonic_mean_of_published_precision_and_recall():
    wide = (
        study.published()
        .query(
            "table == 'paper_protocol' and metric in ('precision', 'recall', 'f1') and (steps.isna() or steps == 1000)"
        )
        .pivot_table(index=["cohort", "generator"], columns="metric", values="value")
        .dropna()  # of DDPM the paper has the recall alone
    )
    assert len(wide) == 6
    harmonic = 2 * wide["precision"] * wide["recall"] / (wide["precision"] + wide["recall"])
    np.testing.assert_allclose(wide["f1"], harmonic, atol=2e-3)  # the paper's is the mean over trainings


def test_published_shares_are_no_percentages():
    table = study.published()
    shares = table[table["metric"].isin(["precision", "recall", "f1", "correlation", "accuracy"])]
    assert shares["value"].between(0.5, 1).all()


def protocol_row(generator, metric, steps=None, space="landmarks", reconstructor="none", reference="train"):
    """A row of the paper's protocol, as its table has it."""
    return {
        "generator": generator,
        "space": space,
        "reconstructor": reconstructor,
        "scaling": "standard",
        "steps": steps,
        "reference": reference,
        "protocol": "paper",
        "metric": metric,
        "mean": 0.5,
        "sd": 0.25,
        "runs": 5,
        "n": 50,
    }


def protocol_table(*rows):
    return pd.DataFrame(rows).astype({"steps": "Int64"})


@pytest.mark.parametrize(
    ("cohort", "row", "expected"),
    [
        ("gtex", protocol_row("wgan_gp", "recall"), 0.9047),
        ("gtex", protocol_row("wgan_gp", "recall", reference="test"), np.nan),
        ("gtex", protocol_row("class_kde", "recall"), np.nan),
        ("tcga", protocol_row("ddim", "frechet_classifier", 1000), 0.52),
        ("tcga", protocol_row("ddpm", "recall", 100), 0.70),
        ("tcga", protocol_row("ddpm", "recall", 99), np.nan),
        ("gtex", protocol_row("ddim", "precision", 50), np.nan),
        ("tcga", protocol_row("ddpm", "accuracy", 99, reference="test"), 0.9272),
        ("gtex", protocol_row("ddim", "accuracy", 50, "transcriptome", "mlp", "test"), 0.9902),
        ("tcga", protocol_row("real", "mae_standardised", None, "transcriptome", "mlp", "test"), 0.270),
        ("tcga", protocol_row("real", "mae_standardised", None, "transcriptome", "ridge", "test"), np.nan),
    ],
)
def test_a_published_value_stands_beside_the_row_it_belongs_to(cohort, row, expected):
    found = study.beside("paper_protocol", protocol_table(row, protocol_row("vae", "none")), cohort)
    np.testing.assert_equal(found["published"].tolist(), [expected, np.nan])


def test_published_indicators_stand_beside_those_of_the_papers_protocol_alone(tables):
    """Beside our own they would be read as if both compared with the same profiles in the same space."""
    beside = {name for name, table in tables.items() if "published" in table}
    assert beside == {"samplers", "cost", "paper_protocol"}
    known = tables["samplers"].dropna(subset="published")
    assert set(known["metric"]) == {"seconds"}
    assert set(tables["cost"].dropna(subset="published")["metric"]) == {"parameters", "seconds"}


def test_where_the_cohort_is_another_there_is_no_column_of_published_values():
    table = protocol_table(protocol_row("vae", "recall"))
    assert study.beside("paper_protocol", table, None) is table


# ----------------------------------------------------------------------------------------------- the tables
def test_the_landmark_table_has_the_papers_indicators_of_both_references(scorecard):
    table = study.landmarks(scorecard)
    assert set(table["metric"]) == {"recall", "frechet_classifier"}
    assert len(table) == 2 * 2 * 2
    ddim = table.query("generator == 'ddim' and reference == 'train' and metric == 'recall'").iloc[0]
    assert (ddim["mean"], ddim["runs"], ddim["n"]) == (16.0, 2, 50)
    np.testing.assert_allclose(ddim["sd"], np.std([11, 21], ddof=1))


def test_the_transcriptome_table_has_the_papers_reconstructors_only(scorecard):
    table = study.transcriptome(scorecard)
    assert set(zip(table["generator"], table["reconstructor"], strict=True)) == {("real", "none"), ("ddim", "mlp")}


def test_reverse_validation_has_quantiles_over_trainings_and_seeds(scorecard):
    table = study.reverse_validation(single())
    assert len(table) == 4
    assert set(table["metric"]) == {"accuracy_mlp"}
    ddim = table.query("generator == 'ddim' and space == 'landmarks'").iloc[0]
    values = [10, 11, 12, 20, 21, 22]
    np.testing.assert_allclose(ddim[["q25", "median", "q75"]].astype(float), np.quantile(values, [0.25, 0.5, 0.75]))
    np.testing.assert_allclose([ddim["mean"], ddim["sd"]], [np.mean(values), np.std(values, ddof=1)])
    assert (ddim["values"], ddim["runs"], ddim["n"]) == (6, 2, 50)


def test_accuracies_against_train_are_no_reverse_validation():
    draws = single()
    draws.loc[draws["reference"] == "train", "value"] = 1e6
    assert study.reverse_validation(draws)["mean"].max() < 100


def test_samplers_are_means_between_trainings_with_the_ceiling_first(scorecard):
    table = study.samplers([draws_of("ddpm"), draws_of("ddim")], scorecard)
    assert table["generator"].drop_duplicates().tolist() == ["real", "ddpm", "ddim"]
    assert table.loc[table["generator"] == "real", "steps"].isna().all()
    assert set(table.loc[table["generator"] == "real", "metric"]) == {"recall"}
    row = table.query("generator == 'ddim' and steps == 1000 and reference == 'test'").iloc[0]
    assert (row["mean"], row["runs"]) == (1015.5, 2)
    np.testing.assert_allclose(row["sd"], np.std([10, 20], ddof=1))
    beside = study.beside("samplers", table, "gtex").query("generator == 'ddpm' and metric == 'seconds'")
    assert dict(zip(beside["steps"], beside["published"], strict=True)) == {50: 14, 1000: 268}


def test_the_reconstruction_table_keeps_every_reconstructor_together():
    quality = pd.DataFrame(
        [
            {"reconstructor": name, "n": 9, **dict.fromkeys(study.ERRORS, i + 0.5)}
            for i, name in enumerate(("ridge", "ols"))
        ]
    )
    table = study.reconstruction(quality)
    assert table["reconstructor"].tolist() == ["ridge"] * len(study.ERRORS) + ["ols"] * len(study.ERRORS)
    assert table.query("reconstructor == 'ols'")["value"].eq(1.5).all()


def summary():
    return pd.DataFrame(
        {
            "generator": "denoiser",
            "run": [1, 2],
            "steps": 60,
            "seconds": [2.0, 4.0],
            "parameters": 100,
            "device": "cuda",
        }
    )


def test_the_cost_is_that_of_one_training():
    table = (
        study.cost(pd.concat([summary(), summary().assign(generator="vae", seconds=1.0)]))
        .query("generator == 'denoiser'")
        .set_index("metric")
    )
    assert table.at["seconds", "mean"] == 3.0
    np.testing.assert_allclose(table.at["seconds", "sd"], np.sqrt(2))
    assert table.at["parameters", "mean"] == 100
    assert set(table["device"]) == {"cuda"}


# ----------------------------------------------------------------------------------------------- the report
def study_tables(scorecard):
    quality = pd.DataFrame([{"reconstructor": "ols", "n": 9, **dict.fromkeys(study.ERRORS, 0.5)}])
    made = {
        "landmarks": study.landmarks(scorecard),
        "transcriptome": study.transcriptome(scorecard),
        "reconstruction": study.reconstruction(quality),
        "reverse_validation": study.reverse_validation(single()),
        "samplers": study.samplers([draws_of("ddpm"), draws_of("ddim")], scorecard),
        "cost": study.cost(summary()),
        "paper_protocol": protocol_table(
            protocol_row("ddim", "recall", 1000) | {"scaling": "max_abs"},
            protocol_row("vae", "recall"),
            protocol_row("real", "recall"),
            protocol_row("vae", "recall", None, "transcriptome", "mlp"),
        ),
    }
    return {name: study.beside(name, table, "gtex") for name, table in made.items()}


@pytest.fixture
def tables(scorecard):
    return study_tables(scorecard)


def test_the_report_stands_alone_and_shows_every_table_with_the_published_values(tables):
    figures = {"samplers": [study.steps_figure(tables["samplers"])], "cost": [study.cost_figure(tables["cost"])]}
    html = study.build_report(tables, figures, {"unit": "log2(<TPM> + 1)"}, "Split <otherwise>.")
    assert not re.search(r"""<(script|link)[^>]+(src|href)=["']https?://""", html)
    assert "log2(&lt;TPM&gt; + 1)" in html
    assert "Split &lt;otherwise&gt;." in html
    body = html[html.index("<body>") :]
    assert body.count('class="figure"') == 2
    for text in (
        "Landmark genes",
        "All genes, by reconstructor",
        "Samplers and steps",
        "ddim, 1000 steps",
        "ddim, max-abs, 1000 steps",
        "<td>vae, standardised</td>",
        '<tr class="ceiling"><td>real, standardised</td>',
        "<td>vae + mlp</td>",  # all of them are standardised
        "ddim + mlp",
        "real",
        "ols",
    ):
        assert text in body, text
    assert "16 ±7.071" in body
    for paper in ("paper 0.892", "paper 0.593", "paper 268<", "paper 11,220<"):
        assert paper in body, paper


def test_without_published_values_the_report_names_none(tables):
    html = study.build_report(
        {name: t.drop(columns="published", errors="ignore") for name, t in tables.items()}, {}, {}
    )
    assert "<small>paper" not in html
    assert 'class="warn"' not in html


def test_a_value_that_is_missing_is_a_dash(tables):
    tables["landmarks"]["mean"] = np.nan
    html = study.build_report(tables, {}, {})
    assert "<td>–" in html


def test_the_figure_has_a_line_per_sampler(tables):
    figure = study.steps_figure(tables["samplers"])
    lines = [trace for trace in figure.data if trace.name == "ddim" and trace.showlegend]
    assert [list(trace.x) for trace in lines] == [[50, 1000]]
