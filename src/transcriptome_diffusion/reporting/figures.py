"""Figures of the tables that evaluation makes, for kedro-viz and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from transcriptome_diffusion.metrics.registry import ATTACKS
from transcriptome_diffusion.reporting import training_log
from transcriptome_diffusion.reporting.guide import label
from transcriptome_diffusion.reporting.scorecard import NO_RECONSTRUCTOR, row_names
from transcriptome_diffusion.reporting.style import PALETTE, finish, rounded, row_colours

#: attacks in the order of their panels; those on the weights come last
#: metrics of the loss attack, whose rows at single times are labelled ``t=0.04``
AT_TIMES = r"loss_attack(_relative)?_auc"
#: of modules of genes, in the order of their panels
MODULES = ("module_density", "module_connectivity", "module_correlation")


def precision_recall_plane(scorecard: pd.DataFrame, space: str = "landmarks") -> go.Figure:
    """Precision against recall, both against held-out donors, with their standard deviations."""
    part = scorecard.query("space == @space and reference == 'test'")
    part = part.assign(row=row_names(part)).drop_duplicates(["row", "metric"])
    means, spread = (part.pivot(index="row", columns="metric", values=what) for what in ("mean", "sd"))
    figure = go.Figure()
    rows = [row for row in dict.fromkeys(part["row"]) if row in means[["precision", "recall"]].dropna(how="all").index]
    colours = row_colours(rows)
    for name in rows:
        real = name == "real"
        errors = {
            f"error_{axis}": {"array": rounded(spread.loc[[name], metric], 4), "thickness": 1, "width": 3}
            for axis, metric in (("x", "recall"), ("y", "precision"))
        }
        figure.add_trace(
            go.Scatter(
                x=rounded(means.loc[[name], "recall"], 4), y=rounded(means.loc[[name], "precision"], 4), name=name,
                mode="markers", **errors,
                marker={"size": 15 if real else 11, "symbol": "star" if real else "circle", "color": colours[name]},
            )
        )  # fmt: skip
    return finish(
        figure, f"Precision and recall, {space}, against held-out donors", 480,
        xaxis_title="recall: share of real profiles the generator covers",
        yaxis_title="precision: share of synthetic profiles that look real",
    )  # fmt: skip


def accuracies(draws: pd.DataFrame, space: str = "landmarks", metric: str = "accuracy_mlp") -> go.Figure:
    """Reverse validation: a tissue classifier trained on synthetic profiles, and on real and synthetic ones.

    A box per row over classifier seeds and trainings, after figure 4 of Lacan et al. (2026),
    doi:10.1186/s12859-026-06470-8; the dashed line is the median of training on real profiles.

    Args:
        draws: single values of the scorecard: generator, reconstructor, space, reference, metric, value.
        metric: its form ``<metric>_augmented`` is training on both.
    """
    part = draws.query("space == @space and reference == 'test'")
    part = part.assign(row=row_names(part))
    figure = go.Figure()
    kinds = {metric: ("synthetic alone", "#1f5fa8"), f"{metric}_augmented": ("real and synthetic", "#e08214")}
    for kind, (name, colour) in kinds.items():
        values = part[part["metric"] == kind].dropna(subset="value")
        if len(values):
            figure.add_trace(
                go.Box(
                    x=values["row"].tolist(), y=rounded(values["value"], 4), name=name, boxpoints="all", jitter=0.4,
                    pointpos=0, marker={"size": 4, "color": colour}, line={"width": 1}, fillcolor="rgba(0,0,0,0.04)",
                )
            )  # fmt: skip
    real = part.query("row == 'real' and metric == @metric")["value"]
    if real.notna().any():
        figure.add_hline(
            y=float(real.median()), line={"dash": "dash", "color": "#111", "width": 1},
            annotation_text="trained on real profiles", annotation_position="bottom right",
        )  # fmt: skip
    return finish(
        figure, f"Tissue of held-out donors predicted by a classifier, {space}: {label(metric)}", 450,
        boxmode="group", yaxis_title="accuracy", legend={"orientation": "h", "y": 1.1, "x": 0.6},
    )  # fmt: skip


def tissue_maps(table: pd.DataFrame, space: str = "landmarks") -> go.Figure:
    """Indicators per tissue as a heat map, rows by tissues; a menu chooses the indicator.

    Empty cells say on hovering why there is no number.

    Args:
        table: generator, reconstructor, space, metric, label, value, low, high, n, note; single times are left out.
    """
    part = table[(table["space"] == space) & ~table["metric"].str.fullmatch(AT_TIMES)]
    part = part.assign(row=row_names(part), note=part["note"].fillna("")).drop_duplicates(["row", "metric", "label"])
    metrics, rows = [*dict.fromkeys(part["metric"])], [*dict.fromkeys(part["row"])]
    labels = sorted(part["label"].astype(str).unique())
    # shown first: it has fewer empty cells than precision and recall
    first = "accuracy_mlp" if "accuracy_mlp" in metrics else metrics[0]
    figure = go.Figure()
    for metric in metrics:
        block = part[part["metric"] == metric].set_index(["row", "label"]).sort_index()
        values = block["value"].unstack().reindex(index=rows, columns=labels)
        hover = block.apply(_cell_text, axis=1).unstack().reindex(index=rows, columns=labels).fillna("not computed")
        figure.add_trace(
            go.Heatmap(
                z=[rounded(row) for row in values.to_numpy(dtype=float)], x=labels, y=rows, hoverongaps=True,
                customdata=hover.to_numpy().tolist(), texttemplate="%{z:.2f}", visible=metric == first,
                hovertemplate="%{y}, %{x}<br>%{customdata}<extra></extra>", colorscale="Blues",
                colorbar={"thickness": 12}, xgap=1, ygap=1,
            )
        )  # fmt: skip
    buttons = [
        {"label": label(metric), "method": "restyle", "args": [{"visible": [m == metric for m in metrics]}]}
        for metric in metrics
    ]
    figure.update_yaxes(autorange="reversed")
    place = {"x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"}
    menu = {"buttons": buttons, "active": metrics.index(first), **place}
    return finish(
        figure, f"Tissue by tissue, {space}", 150 + 32 * len(rows), updatemenus=[menu], plot_bgcolor="#f1f2f4",
        margin={"l": 130, "r": 20, "t": 80, "b": 80},
    )  # fmt: skip


def _cell_text(cell: pd.Series) -> str:
    if pd.isna(cell["value"]):
        return f"no number: {cell['note'] or 'undefined'}"
    bounds = "" if pd.isna(cell["low"]) else f", 95 % {cell['low']:.3f} to {cell['high']:.3f}"
    return f"{cell['value']:.3f}{bounds}, {int(cell['n'])} held-out profiles"


def module_bars(scorecard: pd.DataFrame, space: str = "landmarks") -> go.Figure:
    """Whether genes of a module vary together, row by row; the dashed line is the value of real donors."""
    part = scorecard.query("space == @space and reference == 'test'")
    part = part[part["reconstructor"] == NO_RECONSTRUCTOR]
    found = [metric for metric in MODULES if (part["metric"] == metric).any()]
    figure = make_subplots(1, max(len(found), 1), subplot_titles=[label(m) for m in found], horizontal_spacing=0.05)
    for column, metric in enumerate(found, 1):
        rows = part[part["metric"] == metric].set_index("generator")
        colours = row_colours(rows.index)
        bars = go.Bar(
            x=rows.index.tolist(), y=rounded(rows["mean"]), marker={"color": [colours[name] for name in rows.index]},
            error_y={"array": rounded(rows["sd"]), "thickness": 1, "width": 3},
            hovertemplate="%{x}: %{y}<extra></extra>",
        )  # fmt: skip
        figure.add_trace(bars, row=1, col=column)
        if "real" in rows.index and np.isfinite(level := float(rows["mean"].to_dict()["real"])):
            figure.add_hline(y=level, line={"dash": "dash", "color": "#111", "width": 1}, row=1, col=column)
    figure.update_xaxes(tickangle=-40)
    return finish(
        figure, "Modules of genes that vary together; 1: as among training donors", 400, showlegend=False,
        margin={"l": 50, "r": 20, "t": 80, "b": 100},
    )  # fmt: skip


def attack_intervals(scorecard: pd.DataFrame, space: str = "landmarks") -> go.Figure:
    """The AUC of every membership attack with its 95 % interval; the dotted line is an attack that recognises nobody.

    An AUC below it is a leak as well: the attacker can reverse the score.
    """
    part = scorecard.query("space == @space and reference == 'train'").dropna(subset="mean")
    part = part[part["generator"] != "expected"]  # the dotted line
    found = [attack for attack in ATTACKS if (part["metric"] == f"{attack}_auc").any()]
    part = part[part["metric"].isin([f"{attack}_auc" for attack in found])]
    columns = min(3, max(len(found), 1))
    count = -(-max(len(found), 1) // columns)
    names = [*dict.fromkeys(part["generator"])]
    figure = make_subplots(
        count, columns, subplot_titles=[attack.replace("_", " ") for attack in found], shared_xaxes="all",
        shared_yaxes="all", horizontal_spacing=0.02, vertical_spacing=0.2 / count,
    )  # fmt: skip
    colours = row_colours(names)
    for i, attack in enumerate(found):
        rows = part[part["metric"] == f"{attack}_auc"]
        errors = {
            "symmetric": False, "thickness": 1.5, "width": 3, "color": "#475467",
            "array": rounded(rows["high"] - rows["mean"]), "arrayminus": rounded(rows["mean"] - rows["low"]),
        }  # fmt: skip
        dots = go.Scatter(
            x=rounded(rows["mean"]), y=rows["generator"].tolist(), mode="markers", error_x=errors,
            marker={"size": 8, "color": [colours[name] for name in rows["generator"]]},
            hovertemplate="%{y}: AUC %{x}<extra></extra>",
        )  # fmt: skip
        place: dict[str, Any] = {"row": i // columns + 1, "col": i % columns + 1}
        figure.add_trace(dots, **place)
        figure.add_vline(x=0.5, line={"dash": "dot", "color": "#111", "width": 1}, **place)
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1], type="category")
    figure.update_xaxes(title_text="AUC", row=count)
    return finish(
        figure, "Membership attacks: how well each recognises training donors", 110 + (60 + 22 * len(names)) * count,
        showlegend=False, margin={"l": 120, "r": 20, "t": 80, "b": 50},
    )  # fmt: skip


def attack_by_time(table: pd.DataFrame) -> go.Figure:
    """The AUC of the loss attack that uses the loss at one time only, by time, with 95 % bands.

    Args:
        table: generator, metric, label, value, low, high; rows of the loss attack are labelled with their time.
    """
    part = table[table["metric"].str.fullmatch(AT_TIMES)]
    part = part.assign(time=part["label"].str.removeprefix("t=").astype(float)).sort_values("time")
    figure = go.Figure()
    colours = row_colours(table["generator"])
    for key, line in part.groupby(["generator", "metric"], sort=False):
        name, attack = map(str, key)
        look: dict[str, Any] = {"x": rounded(line["time"]), "legendgroup": f"{name}{attack}", "mode": "lines"}
        if line["low"].notna().any():
            band: dict[str, Any] = {"line": {"width": 0}, "showlegend": False, "hoverinfo": "skip", **look}
            low = go.Scatter(y=rounded(line["low"]), **band)
            high = go.Scatter(y=rounded(line["high"]), fill="tonexty", fillcolor=_faint(colours[name]), **band)
            figure.add_traces([low, high])
        dash = "dash" if "relative" in attack else "solid"
        title = f"{name}, {attack.removesuffix('_auc').replace('_', ' ')}"
        figure.add_scatter(
            y=rounded(line["value"]), name=title, line={"color": colours[name], "dash": dash, "width": 2}, **look
        )
    figure.add_hline(y=0.5, line={"dash": "dot", "color": "#111", "width": 1})
    times = "time: 0 is a profile, 1 is pure noise"
    return finish(figure, "Loss attack at single times", 400, xaxis_title=times, yaxis_title="AUC")


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.12)"


def reconstruction_by_gene(tables: Mapping[str, pd.DataFrame], lowest: float = -0.5) -> go.Figure:
    """How R² is distributed over genes, and which genes the landmarks do not predict.

    Left, for every reconstructor the share of genes that reach each R². Right, every gene of the one with the
    highest median: R² against its standard deviation among the real profiles; hovering shows the symbol.

    Args:
        tables: per reconstructor what ``metrics.regression.by_gene`` returns.
        lowest: genes below this R² are drawn there.
    """
    figure = make_subplots(
        1, 2, column_widths=[0.4, 0.6], horizontal_spacing=0.1,
        subplot_titles=["share of genes that reach an R²", "every target gene"],
    )  # fmt: skip
    defined = {name: table.loc[table["r2"].notna()] for name, table in tables.items()}
    for i, (name, table) in enumerate(defined.items()):
        r2 = np.sort(table["r2"].clip(lower=lowest).to_numpy())
        picked = np.unique(np.linspace(0, len(r2) - 1, min(len(r2), 400)).round().astype(int))
        figure.add_trace(
            go.Scatter(
                x=rounded(r2[picked]), y=rounded(1 - picked / len(r2), 4), name=f"{name}, median {np.median(r2):.2f}",
                mode="lines", line={"color": PALETTE[i]},
            ), row=1, col=1,
        )  # fmt: skip
    best = max(defined, key=lambda name: defined[name]["r2"].median())
    genes = defined[best]
    symbols = genes["symbol"].astype(str) if "symbol" in genes else genes.index.astype(str)
    figure.add_trace(
        go.Scattergl(
            x=rounded(genes["sd"]), y=rounded(genes["r2"].clip(lower=lowest)), text=list(symbols),
            customdata=rounded(genes["mean"], 2), mode="markers", name=best, showlegend=False,
            marker={"size": 3, "opacity": 0.35, "color": PALETTE[list(defined).index(best)]},
            hovertemplate="%{text}<br>R² %{y}, s.d. %{x}, mean %{customdata}<extra></extra>",
        ), row=1, col=2,
    )  # fmt: skip
    figure.update_xaxes(title_text="R² on held-out donors", row=1, col=1)
    figure.update_yaxes(title_text="share of genes", rangemode="tozero", row=1, col=1)
    figure.update_xaxes(title_text="standard deviation among held-out donors, log unit", row=1, col=2)
    figure.update_yaxes(title_text=f"R² ({best})", row=1, col=2)
    return finish(figure, "Reconstruction from real landmarks, gene by gene", 480, legend={"x": 0.01, "y": 0.02})


def augmentation_curves(table: pd.DataFrame, metric: str = "balanced_accuracy_mlp") -> go.Figure:
    """A classifier on held-out donors against the number of synthetic profiles beside every real one.

    A panel per number of real profiles, a line per method with its standard deviation over seeds; the dashed line is
    real profiles alone, on which every method starts.

    Args:
        table: what ``augmentation.score`` returns.
        metric: which of its metrics; where it is not in the table, the first one that is.
    """
    metric = metric if (table["metric"] == metric).any() else str(table["metric"].iloc[0])
    part = table[table["metric"] == metric]
    by = part.groupby(["method", "n_per_tissue", "ratio"])["value"]
    means, spread = by.mean(), by.std().fillna(0)
    sizes, methods = list(dict.fromkeys(part["n_per_tissue"])), list(dict.fromkeys(part["method"]))
    colour = {method: PALETTE[i % len(PALETTE)] for i, method in enumerate(m for m in methods if m != "none")}
    figure = make_subplots(
        1, len(sizes), shared_yaxes=True, horizontal_spacing=0.015,
        subplot_titles=[f"{size} real per tissue" if size != "all" else "all real profiles" for size in sizes],
    )  # fmt: skip
    for column, size in enumerate(sizes, 1):
        alone = float(means["none", size, 0])
        for method in colour:
            line, error = means[method, size], spread[method, size]
            figure.add_trace(
                go.Scatter(
                    x=[0, *line.index], y=rounded([alone, *line], 4), name=method, legendgroup=method,
                    error_y={"array": rounded([0, *error], 4), "thickness": 1, "width": 2}, showlegend=column == 1,
                    mode="lines+markers", line={"color": colour[method]}, connectgaps=False,
                ), row=1, col=column,
            )  # fmt: skip
        figure.add_hline(y=alone, line={"dash": "dash", "color": "#888", "width": 1}, row=1, col=column)
    figure.update_xaxes(title_text="synthetic per real")
    figure.update_yaxes(title_text=metric.replace("_", " "), col=1)
    title = "Tissue classifier on held-out donors, trained on few real profiles and synthetic ones"
    return finish(figure, title, 430, legend={"orientation": "h", "y": -0.25})


#: figures that need no profiles, by the name they have in the report, with the table each is drawn from
FROM_TABLES: dict[str, tuple[str, Callable[[pd.DataFrame], go.Figure]]] = {
    "precision_recall": ("scorecard", precision_recall_plane),
    "accuracies": ("draws", accuracies),
    "by_tissue": ("by_tissue", tissue_maps),
    "modules": ("scorecard", module_bars),
    "privacy": ("scorecard", attack_intervals),
    "privacy_by_time": ("by_tissue", attack_by_time),
    "training": ("training_curves", training_log.overview),
}
