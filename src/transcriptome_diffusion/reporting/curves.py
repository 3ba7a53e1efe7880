"""Figures of the low-sample experiment: learning curves, and what profiles give away for how good they are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from transcriptome_diffusion.reporting.page import number, plain_table, render
from transcriptome_diffusion.reporting.style import PALETTE, finish, rounded

#: what the frontier shows against the attack, with its value for synthetic profiles nobody could tell from real ones
AGAINST = {
    "adversarial_accuracy": 0.5,
    "tstr_balanced_accuracy": None,
    "edges_found": None,
    "edges_false": None,
}


def learning_curves(worth: pd.DataFrame) -> go.Figure:
    """Accuracy against real profiles of a class: the fitted curve with its band, and the best ratio of every method.

    Args:
        worth: what ``learning_curves.needs`` returns.
    """
    figure = go.Figure()
    alone = worth[worth["method"] == "none"].sort_values("n")
    x = rounded(alone["n"])
    for edge, fill in (("curve_high", None), ("curve_low", "tonexty")):
        figure.add_trace(
            go.Scatter(
                x=x, y=rounded(alone[edge], 4), mode="lines", line={"width": 0}, fill=fill,
                fillcolor="rgba(136,136,136,0.2)", showlegend=False, hoverinfo="skip",
            )
        )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=x, y=rounded(alone["curve"], 4), mode="lines", name="fitted", line={"color": "#888", "dash": "dash"}
        )
    )
    figure.add_trace(
        go.Scatter(x=x, y=rounded(alone["accuracy"], 4), mode="markers", name="real alone", marker={"color": "#111"})
    )
    for place, (method, part) in enumerate(worth[worth["method"] != "none"].groupby("method", sort=False)):
        best = part.loc[part.groupby("n")["accuracy"].idxmax().dropna()]
        figure.add_trace(
            go.Scatter(
                x=rounded(best["n"]), y=rounded(best["accuracy"], 4), mode="markers+lines", name=str(method),
                line={"color": PALETTE[place % len(PALETTE)], "width": 1},
            )
        )  # fmt: skip
    figure.update_xaxes(type="log", title_text="real profiles of a class")
    figure.update_yaxes(title_text="balanced accuracy on held-out donors")
    return finish(figure, "What real and synthetic profiles teach a classifier (best ratio of each method)", 430)


def frontier_figure(quality: pd.DataFrame) -> go.Figure:
    """What an attacker finds against how good profiles are, a point per method, at the largest number of real ones.

    Args:
        quality: what ``learning_curves.quality`` returns.
    """
    figure = make_subplots(1, len(AGAINST), shared_yaxes=True, horizontal_spacing=0.03)
    if not quality.empty:
        size = quality["n_per_tissue"].iloc[int(np.argmax(quality["real_profiles"]))]
        by = quality[quality["n_per_tissue"] == size].groupby(["method", "metric"], sort=False)["value"]
        mean, spread = (part.unstack("metric", sort=False) for part in (by.mean(), by.std().fillna(0)))
        attacks = [name for name in ("attack_auc", "known_axes_auc") if name in mean]
        worst, error = mean[attacks].max(axis=1), spread[attacks].max(axis=1)
        for column, (metric, ideal) in enumerate(AGAINST.items(), 1):
            for place, method in enumerate(mean.index):
                figure.add_trace(
                    go.Scatter(
                        x=rounded([mean.at[method, metric]], 4), y=rounded([worst[method]], 4), name=str(method),
                        error_x={"array": rounded([spread.at[method, metric]], 4), "thickness": 1, "width": 2},
                        error_y={"array": rounded([error[method]], 4), "thickness": 1, "width": 2},
                        legendgroup=str(method), showlegend=column == 1, mode="markers",
                        marker={"color": PALETTE[place % len(PALETTE)], "size": 9},
                    ), row=1, col=column,
                )  # fmt: skip
            figure.add_hline(y=0.5, line={"dash": "dash", "color": "#888", "width": 1}, row=1, col=column)
            if ideal is not None:
                figure.add_vline(x=ideal, line={"dash": "dash", "color": "#888", "width": 1}, row=1, col=column)
            figure.update_xaxes(title_text=metric.replace("_", " "), row=1, col=column)
    figure.update_yaxes(title_text="AUC of the stronger attack", col=1)
    return finish(
        figure, "Membership against quality; dashed: nothing is found", 430, legend={"orientation": "h", "y": -0.25}
    )


def privacy_page(
    sentence: str, tables: Mapping[str, pd.DataFrame], figure: go.Figure, facts: Mapping[str, object]
) -> str:
    """The report before a release as one HTML file that opens without a network.

    Args:
        sentence: for the model card. tables: ``frontier`` of ``learning_curves``, and ``attacks``, ``by_class`` and
            ``at_risk`` of ``release.PrivacyReport``. figure: of ``frontier_figure``. facts: shown at the top.
    """
    wide = tables["frontier"]
    metrics = [name for name in wide if f"{name}_sd" in wide]
    texts = {
        name: [
            number(mean) if np.isnan(sd) else f"{number(mean)} ±{number(sd)}"
            for mean, sd in zip(wide[name], wide[f"{name}_sd"], strict=True)
        ]
        for name in metrics
    }
    return render(
        "privacy.html",
        title="Before a release",
        facts=facts,
        sentence=sentence,
        frontier=plain_table(pd.DataFrame({"method": wide["method"], **texts})),
        figure=figure,
        **{name: plain_table(tables[name]) for name in ("attacks", "by_class", "at_risk")},
    )
