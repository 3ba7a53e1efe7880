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
