"""Plotly figures for kedro-viz and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import qualitative
from plotly.subplots import make_subplots

PALETTE = qualitative.Dark24


def pca_comparison(
    train: np.ndarray,
    held_out: np.ndarray,
    held_out_labels: np.ndarray,
    synthetic: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> go.Figure:
    """Held-out and synthetic profiles in the first two principal components of the training data.

    Components are fitted on train alone, so that no panel bends the axes. Every panel shows the held-out
    profiles in grey below its own, coloured by label.

    Args:
        train: (n_train, n_genes), standardised.
        held_out: (n, n_genes) in the same units, with one label per row.
        synthetic: per generator its profiles (m, n_genes) and labels (m,).
    """
    centre = train.mean(axis=0)
    _, singular, axes = np.linalg.svd(train - centre, full_matrices=False)
    share = singular[:2] ** 2 / (singular**2).sum()
    panels = {"held-out donors": (held_out, held_out_labels), **synthetic}
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = make_subplots(
        rows, columns, subplot_titles=list(panels), shared_xaxes="all", shared_yaxes="all",
        horizontal_spacing=0.02, vertical_spacing=0.18 / rows,
    )  # fmt: skip
    grey = (held_out - centre) @ axes[:2].T
    known = sorted(set(held_out_labels))
    colour = {label: PALETTE[i % len(PALETTE)] for i, label in enumerate(known)}
    for i, (_, (values, labels)) in enumerate(panels.items()):
        place: dict[str, Any] = {"row": i // columns + 1, "col": i % columns + 1}
        points = (values - centre) @ axes[:2].T
        if i:
            figure.add_trace(_dots(grey, "held-out donors", "#c8c8c8", showlegend=False, size=5), **place)
        for label in known:
            mask = labels == label
            figure.add_trace(_dots(points[mask], label, colour[label], showlegend=i == 0, size=4), **place)
    figure.update_xaxes(title_text=f"PC1 ({share[0]:.0%})", row=rows)
    figure.update_yaxes(title_text=f"PC2 ({share[1]:.0%})", col=1)
    figure.update_layout(
        template="plotly_white", height=80 + 330 * rows, margin={"l": 60, "r": 20, "t": 90, "b": 50},
        legend={"itemsizing": "constant"},
        title="Real and synthetic profiles, principal components of the training donors",
    )  # fmt: skip
    return figure


def _dots(points: np.ndarray, name: str, colour: str, showlegend: bool, size: int) -> go.Scatter:
    return go.Scatter(
        x=points[:, 0].round(3), y=points[:, 1].round(3), mode="markers", name=name, legendgroup=name,
        showlegend=showlegend, marker={"size": size, "color": colour, "opacity": 0.75}, hoverinfo="name",
    )  # fmt: skip


def precision_recall_plane(scorecard: pd.DataFrame, space: str = "landmarks") -> go.Figure:
    """Precision against recall, both towards held-out donors, with their spread."""
    part = scorecard.query("space == @space and reference == 'test'")
    means = part.pivot_table(index="generator", columns="metric", values="mean", sort=False)
    spread = part.pivot_table(index="generator", columns="metric", values="sd", sort=False, dropna=False)
    spread = spread.reindex_like(means)
    figure = go.Figure()
    for i, name in enumerate(means.index):
        real = name == "real"
        figure.add_trace(
            go.Scatter(
                x=[means.at[name, "recall"]], y=[means.at[name, "precision"]], name=name,
                error_x={"array": [spread.at[name, "recall"]], "thickness": 1},
                error_y={"array": [spread.at[name, "precision"]], "thickness": 1},
                mode="markers+text", text=[name], textposition="top center",
                marker={"size": 13, "symbol": "star" if real else "circle", "color": "black" if real else PALETTE[i]},
            )
        )  # fmt: skip
    figure.update_layout(
        template="plotly_white", height=480, showlegend=False, title=f"Precision and recall, {space}",
        xaxis_title="recall: share of real profiles the generator covers",
        yaxis_title="precision: share of synthetic profiles that look real",
    )  # fmt: skip
    return figure


def reconstruction_by_gene(tables: Mapping[str, pd.DataFrame], lowest: float = -0.5) -> go.Figure:
    """How R² is distributed over genes, and which genes the panel cannot tell.

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
                x=r2[picked].round(3), y=(1 - picked / len(r2)).round(4), name=f"{name}, median {np.median(r2):.2f}",
                mode="lines", line={"color": PALETTE[i]},
            ), row=1, col=1,
        )  # fmt: skip
    best = max(defined, key=lambda name: defined[name]["r2"].median())
    genes = defined[best]
    symbols = genes["symbol"].astype(str) if "symbol" in genes else genes.index.astype(str)
    figure.add_trace(
        go.Scattergl(
            x=genes["sd"].to_numpy().round(3), y=genes["r2"].clip(lower=lowest).to_numpy().round(3), text=list(symbols),
            customdata=genes["mean"].to_numpy().round(2), mode="markers", name=best, showlegend=False,
            marker={"size": 3, "opacity": 0.35, "color": PALETTE[list(defined).index(best)]},
            hovertemplate="%{text}<br>R² %{y}, s.d. %{x}, mean %{customdata}<extra></extra>",
        ), row=1, col=2,
    )  # fmt: skip
    figure.update_xaxes(title_text="R² on held-out donors", row=1, col=1)
    figure.update_yaxes(title_text="share of genes", rangemode="tozero", row=1, col=1)
    figure.update_xaxes(title_text="standard deviation among held-out donors, log unit", row=1, col=2)
    figure.update_yaxes(title_text=f"R² ({best})", row=1, col=2)
    figure.update_layout(
        template="plotly_white", height=480, title="Reconstruction from real landmarks, gene by gene",
        legend={"x": 0.01, "y": 0.02},
    )  # fmt: skip
    return figure


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
                    x=[0, *line.index], y=np.round([alone, *line], 4), name=method, legendgroup=method,
                    error_y={"array": [0, *error.round(4)], "thickness": 1, "width": 2}, showlegend=column == 1,
                    mode="lines+markers", line={"color": colour[method]}, connectgaps=False,
                ), row=1, col=column,
            )  # fmt: skip
        figure.add_hline(y=alone, line={"dash": "dash", "color": "#888", "width": 1}, row=1, col=column)
    figure.update_xaxes(title_text="synthetic per real")
    figure.update_yaxes(title_text=metric.replace("_", " "), col=1)
    figure.update_layout(
        template="plotly_white", height=430, legend={"orientation": "h", "y": -0.25},
        title="Tissue classifier on held-out donors, trained on few real profiles and synthetic ones",
    )  # fmt: skip
    return figure
