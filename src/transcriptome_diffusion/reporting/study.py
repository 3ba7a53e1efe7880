"""The study's tables, the paper's published values beside them, two figures and one HTML file.

Tables follow the experiment of Lacan et al. (2026), doi:10.1186/s12859-026-06470-8, and are named by content:

- ``landmarks``: the paper's indicators of every generator of landmark genes (its table 1);
- ``transcriptome``: the same for all genes, rebuilt by linear regression, by the perceptron, or generated directly;
- ``reconstruction``: both reconstructors on real landmarks of held-out donors, the bound of what is rebuilt;
- ``reverse_validation``: accuracies of classifiers that learned from synthetic profiles alone (its figure 4);
- ``samplers``: DDPM and DDIM by number of steps; ``cost``: parameters and training time;
- ``paper_protocol``: the indicators as the paper's code takes them, which its published values compare with.

All are long: a row per value, shares (not per cent), mean and standard deviation between trainings.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from transcriptome_diffusion.reporting.guide import label
from transcriptome_diffusion.reporting.page import number, render
from transcriptome_diffusion.reporting.scorecard import NO_RECONSTRUCTOR, REFERENCE_ROWS, summarise
from transcriptome_diffusion.reporting.style import PALETTE, finish

#: the paper's indicators, in its order, and the Fréchet distance that needs no classifier
INDICATORS = (
    "correlation",
    "precision",
    "recall",
    "f1",
    "adversarial_accuracy",
    "frechet_classifier",
    "frechet_pca",
)
#: how the paper makes all genes: linear regression, perceptron, generation without landmarks
RECONSTRUCTORS = ("ols", "mlp", "direct")
ACCURACIES = ("accuracy_mlp", "balanced_accuracy_mlp", "macro_f1_mlp")
ERRORS = ("mae_standardised", "mae", "rmse", "r2_median", "r2_mean", "pearson_median")
COSTS = ("parameters", "steps", "seconds")
#: what tells one row of a table from another
KEYS = ("space", "generator", "reconstructor", "steps", "reference", "metric")
#: the numbers of a cell
VALUES = ["mean", "sd", "runs", "n"]
#: in the column ``reference``, of what is compared with no profiles
NO_REFERENCE = "none"
#: words of the paper's protocol for spaces and scalings
SPACES = {"landmarks": "Landmark genes", "transcriptome": "All genes"}
SCALINGS = {"max_abs": "max-abs", "standard": "standardised"}


# ------------------------------------------------------------------------------------------ the tables
def landmarks(scorecard: pd.DataFrame) -> pd.DataFrame:
    """Every row of the scorecard on landmarks, both references: generator, reference, metric, mean, sd, runs, n."""
    part = _indicators(scorecard, "landmarks")
    return part[["generator", "reference", "metric", *VALUES]].reset_index(drop=True)


def transcriptome(scorecard: pd.DataFrame) -> pd.DataFrame:
    """The same on all genes, with the column reconstructor: real profiles and the paper's reconstructors."""
    part = _indicators(scorecard, "transcriptome")
    return part[["generator", "reconstructor", "reference", "metric", *VALUES]].reset_index(drop=True)


def _indicators(scorecard: pd.DataFrame, space: str) -> pd.DataFrame:
    known = scorecard["metric"].isin(INDICATORS) & scorecard["reconstructor"].isin([*RECONSTRUCTORS, NO_RECONSTRUCTOR])
    return scorecard[known & (scorecard["space"] == space)]


def reconstruction(quality: pd.DataFrame) -> pd.DataFrame:
    """How well real held-out profiles are rebuilt: reconstructor, metric, value, n.

    ``mae`` and ``rmse`` in the log unit, ``mae_standardised`` in training standard deviations, as in the paper.

    Args:
        quality: a row per reconstructor, ``metrics.regression.summarise``.
    """
    long = quality.melt(["reconstructor", "n"], ERRORS, "metric", "value", ignore_index=False)
    return long.sort_index(kind="stable")[["reconstructor", "metric", "value", "n"]].reset_index(drop=True)


def reverse_validation(draws: pd.DataFrame) -> pd.DataFrame:
    """Accuracies over all trainings and classifier seeds: median, quartiles, mean and standard deviation.

    ``values`` is their number, ``runs`` that of trainings. ``real`` is the classifier that learned from real profiles.

    Args:
        draws: the scorecard's single values; a draw of an accuracy is a classifier seed.
    """
    known = draws["metric"].isin(ACCURACIES) & draws["reconstructor"].isin([*RECONSTRUCTORS, NO_RECONSTRUCTOR])
    by = draws[known & (draws["reference"] == "test")].groupby(
        ["space", "generator", "reconstructor", "metric"], sort=False
    )
    table = by["value"].describe().rename(columns={"50%": "median", "25%": "q25", "75%": "q75", "std": "sd"})
    table = table.astype({"count": int}).rename(columns={"count": "values"})
    table = table[["median", "q25", "q75", "mean", "sd", "values"]]
    return table.join(by["run"].nunique().rename("runs")).join(by["n"].first()).reset_index()


def samplers(draws: Sequence[pd.DataFrame], scorecard: pd.DataFrame) -> pd.DataFrame:
    """Every sampler and number of steps, both references and times; ``real``, without steps, is the ceiling.

    Columns: generator, steps, reference, metric, mean, sd, runs, n, device.

    Args:
        draws: single values of each sampler, ``study.compare_steps``.
    """
    real = scorecard[(scorecard["generator"] == "real") & (scorecard["space"] == "landmarks")]
    tables = [real[real["metric"].isin(draws[0]["metric"])].assign(steps=np.nan, device="")]
    for sampler in draws:
        for steps in sampler["steps"].unique():
            part = sampler[sampler["steps"] == steps]
            part = part.assign(reconstructor=NO_RECONSTRUCTOR, space="landmarks", low=np.nan, high=np.nan, note="")
            tables.append(summarise(part).assign(steps=int(steps), device=str(part["device"].iloc[0])))
    table = pd.concat(tables, ignore_index=True)
    return table.astype({"steps": "Int64"})[["generator", "steps", "reference", "metric", *VALUES, "device"]]


def cost(summary: pd.DataFrame) -> pd.DataFrame:
    """Parameters, training steps and seconds of every trained generator: mean and sd between trainings, and the device.

    Args:
        summary: a row per training of all generators, ``reporting.training_log.summary``.
    """
    rows = []
    for name, part in summary.groupby("generator", sort=False):
        device = ", ".join(dict.fromkeys(part["device"].astype(str)))
        for metric in COSTS:
            values = part[metric].astype(float)
            rows.append((name, metric, values.mean(), values.std(), len(values), device))
    return pd.DataFrame(rows, columns=["generator", "metric", "mean", "sd", "runs", "device"])


def beside(name: str, table: pd.DataFrame, cohort: str | None) -> pd.DataFrame:
    """``table`` with the paper's values in the column ``published``; as it is, where there are none for it.

    The paper's indicators stand beside those of its own protocol alone, and beside costs: no other table compares with
    them. Values that the paper gives without a number of sampling steps stand beside every number of steps.

    Args:
        name: of the table, as above. cohort: ``gtex`` or ``tcga``; None where the data are another.

    Raises:
        ValueError: if two published values fall on one row.
    """
    known = published()
    known = known[(known["table"] == name) & (known["cohort"] == cohort)].rename(columns={"value": "published"})
    if known.empty:
        return table
    keys = [key for key in KEYS if key in table]
    found = table.merge(known[[*keys, "published"]], "left", keys, validate="many_to_one")
    if "steps" in keys:
        keys.remove("steps")
        known = known.loc[known["steps"].isna(), [*keys, "published"]]
        found["published"] = found["published"].fillna(table.merge(known, "left", keys)["published"])
    return found


def published() -> pd.DataFrame:
    """The paper's values in our units: table, cohort, space, ..., metric, value, source; one row each."""
    with files(__package__).joinpath("published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False, na_values=[""], dtype={"steps": "Int64"})


# ------------------------------------------------------------------------------------------ the figures
def steps_figure(table: pd.DataFrame, reference: str = "test") -> go.Figure:
    """The effect of more steps: recall, adversarial accuracy, Fréchet distance and seconds of each sampler by steps.

    Args:
        table: of ``samplers``.
    """
    wanted = ("recall", "adversarial_accuracy", "frechet_classifier", "frechet_pca", "seconds_per_1000")
    table = table[table["reference"].isin([reference, NO_REFERENCE])]
    panels = {metric: table[table["metric"] == metric] for metric in wanted if (table["metric"] == metric).any()}
    titles = [label(metric) for metric in panels]
    figure = make_subplots(1, len(panels), subplot_titles=titles, horizontal_spacing=0.06)
    for column, panel in enumerate(panels.values(), 1):
        place: dict[str, Any] = {"row": 1, "col": column}
        for i, (name, line) in enumerate(panel.dropna(subset="steps").groupby("generator", sort=False)):
            figure.add_trace(
                go.Scatter(
                    x=line["steps"].astype(int), y=line["mean"],
                    error_y={"array": line["sd"].fillna(0), "thickness": 1}, name=str(name),
                    mode="lines+markers", line={"color": PALETTE[i]}, showlegend=column == 1, legendgroup=str(name),
                ), **place,
            )  # fmt: skip
        for real in panel.loc[panel["generator"] == "real", "mean"]:
            figure.add_hline(real, line={"dash": "dash", "color": "#888"}, annotation_text="real", **place)
        figure.update_xaxes(type="log", title_text="steps", tickvals=sorted(set(panel["steps"].dropna())), **place)
    title = f"Samplers by number of steps, against {AGAINST[reference]}"
    return finish(figure, title, 400, legend={"orientation": "h", "y": -0.25})


def cost_figure(table: pd.DataFrame) -> go.Figure:
    """Training time against parameters, a point per generator; ``table`` is that of ``cost``."""
    mean = table.pivot_table(index="generator", columns="metric", values="mean", sort=False)
    spread = table.pivot_table(index="generator", columns="metric", values="sd", sort=False, dropna=False)
    figure = go.Figure()
    for i, name in enumerate(mean.index):
        figure.add_trace(
            go.Scatter(
                x=[mean.at[name, "parameters"]], y=[mean.at[name, "seconds"]], name=str(name), text=[str(name)],
                error_y={"array": [spread["seconds"].fillna(0)[name]], "thickness": 1},
                mode="markers+text", textposition="top center", marker={"size": 11, "color": PALETTE[i]},
            )
        )  # fmt: skip
    devices = ", ".join(dict.fromkeys(table["device"]))
    return finish(
        figure, f"Parameters and training time, on {devices}", 430, showlegend=False,
        xaxis={"title": "parameters", "type": "log", "dtick": "D2"},
        yaxis={"title": "seconds per training", "type": "log", "dtick": "D2"},
    )  # fmt: skip


# ------------------------------------------------------------------------------------------ the report
AGAINST = {"train": "training profiles", "test": "held-out donors"}


def build_report(
    tables: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Sequence[go.Figure]],
    facts: Mapping[str, object],
    warning: str = "",
) -> str:
    """All tables and figures as one HTML file that opens without a network.

    Args:
        tables: by name, with or without ``published``. figures: by the name of the table they stand below.
        facts: shown at the top. warning: what keeps the published values from being comparable.
    """
    return render(
        "study.html",
        title="The study",
        heading="The study: the experiment of Lacan et al. (2026) on this cohort",
        tables={name: [_wide(*block) for block in _blocks(table)] for name, table in tables.items()},
        figures=figures,
        facts=facts,
        warning=warning,
    )


def _blocks(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Titled parts of a long table: by reference, with what has none in each; or by space; or the whole."""
    if "protocol" in table:
        # the scaling stands in the names of rows where it tells them apart
        return [
            (SPACES[str(space)], part if part["scaling"].nunique() > 1 else part.drop(columns="scaling"))
            for space, part in table.groupby("space", sort=False)
        ]
    if "reference" in table:
        return [
            (f"Against {words}", table[table["reference"].isin([side, NO_REFERENCE])])
            for side, words in AGAINST.items()
        ]
    if "space" in table:
        return [(str(space).capitalize(), part) for space, part in table.groupby("space", sort=False)]
    return [("", table)]


def _wide(title: str, part: pd.DataFrame) -> dict[str, Any]:
    """A long table for the template, a column per metric."""
    metrics = [metric for metric in dict.fromkeys([*INDICATORS, *part["metric"]]) if (part["metric"] == metric).any()]
    rows: dict[str, dict[str, dict[str, str]]] = {}
    for row in part.to_dict("records"):
        rows.setdefault(_name(row), {})[row["metric"]] = _cell(row)
    empty = {"text": "", "paper": ""}
    return {
        "title": title,
        "heads": [label(metric) for metric in metrics],
        "rows": [
            {
                "name": name,
                "role": REFERENCE_ROWS.get(name.partition(",")[0], ""),
                "cells": [own.get(metric, empty) for metric in metrics],
            }
            for name, own in rows.items()
        ],
    }


def _name(row: Mapping[Hashable, Any]) -> str:
    """What a reader calls a row: ``wgan_gp + mlp``, ``ddim, 50 steps``, ``ols``, ``real, max-abs``."""
    parts = [row.get(key, NO_RECONSTRUCTOR) for key in ("generator", "reconstructor")]
    name = " + ".join(part for part in parts if part != NO_RECONSTRUCTOR)
    name += f", {SCALINGS[str(row['scaling'])]}" if "scaling" in row else ""
    return name if pd.isna(row.get("steps", pd.NA)) else f"{name}, {int(row['steps'])} steps"


def _cell(row: Mapping[Hashable, Any]) -> dict[str, str]:
    """The median with its quartiles, the mean with its deviation, or the value; beside it what the paper has."""
    if "median" in row:
        text = f"{number(row['median'])} ({number(row['q25'])} to {number(row['q75'])})"
    else:
        text = number(row["mean"] if "mean" in row else row["value"])
        text += f" ±{number(row['sd'])}" if row.get("sd", 0) > 0 else ""
    paper = row.get("published", np.nan)
    return {"text": text, "paper": "" if pd.isna(paper) else number(paper)}
