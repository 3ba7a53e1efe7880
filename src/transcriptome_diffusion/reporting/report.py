"""The report: one HTML file that opens without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from transcriptome_diffusion import __version__
from transcriptome_diffusion.reporting.scorecard import cells, closer_than_floors, role, wide

GUIDE = {
    "precision": "Share of synthetic profiles inside the neighbourhood of a real one. Above the real row: samples "
    "shrunken towards the middle of their tissue, not better ones.",
    "recall": "Share of real profiles inside the neighbourhood of a synthetic one: how much of the real variety is "
    "covered.",
    "density": "How deep synthetic profiles lie inside real neighbourhoods. The real row is the goal; far above it "
    "means shrinkage.",
    "coverage": "Share of real neighbourhoods that hold at least one synthetic profile.",
    "adversarial_accuracy": "How well a nearest-neighbour rule tells real from synthetic: .5 cannot, 1 always, "
    "towards 0 copies. The goal is the real row; profiles that vary too little (spread) or copy lower it as well.",
    "correlation": "Agreement of the gene-gene correlations of real and synthetic profiles; pooled over tissues.",
    "accuracy_mlp": "Reverse validation: a neural classifier learns tissues from synthetic profiles alone and is "
    "tested on held-out donors.",
    "balanced_accuracy_mlp": "The same, every tissue counting alike.",
    "accuracy_logistic": "The same with a logistic regression.",
    "copying": "Share of profiles nearer to a training profile than 99 % of held-out profiles are; about .01 is "
    "innocent, the memoriser has 1.",
    "spread": "Variance within a tissue, relative to real held-out donors; below 1 the samples are too alike.",
}

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1320px;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.7rem;margin-bottom:.2rem} h2{margin-top:2.4rem;border-bottom:1px solid #ddd;padding-bottom:.2rem}
table{border-collapse:collapse;font-size:12px;font-variant-numeric:tabular-nums;margin:.8rem 0}
th,td{padding:.3rem .42rem;border-bottom:1px solid #e6e6e6;text-align:right;white-space:nowrap}
th{white-space:normal;vertical-align:bottom}
th:first-child,td:first-child{text-align:left} td small{display:block} thead th{border-bottom:2px solid #999}
tr.real{background:#eef5ff} tr.floor{background:#f6f6f6} tr.warning{background:#fff3e6}
td.better{background:#dff3df;font-weight:600} small,.note{color:#666} .scroll{overflow-x:auto}
dt{font-weight:600;margin-top:.5rem} dd{margin-left:1rem}
"""


def scorecard_table(scorecard: pd.DataFrame, space: str, reference: str) -> str:
    """One space and reference as an HTML table; cells closer to ``real`` than both floors stand out."""
    better = closer_than_floors(wide(scorecard, space, reference))
    table = cells(scorecard, space, reference)
    head = "".join(f"<th>{escape(str(metric).replace('_', ' '))}</th>" for metric in table)
    body = []
    for name, texts, marks in zip(map(str, table.index), table.to_numpy(), better.to_numpy(), strict=True):
        what = role(name)
        style = {"ceiling": "real", "floor": "floor", "warning": "warning"}.get(what.split(":")[0], "")
        note = f" <small>{escape(what)}</small>" if what else ""
        row = "".join(
            f'<td class="{"better" if mark else ""}">{text}</td>' for text, mark in zip(texts, marks, strict=True)
        )
        body.append(f'<tr class="{style}"><td>{escape(name)}{note}</td>{row}</tr>')
    inner = f"<table><thead><tr><th>generator</th>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="scroll">{inner}</div>'


def build_report(
    scorecard: pd.DataFrame,
    cohort: pd.DataFrame,
    reconstruction: pd.DataFrame,
    trainings: pd.DataFrame,
    figures: Mapping[str, go.Figure],
    curves: Sequence[go.Figure],
    facts: Mapping[str, object],
) -> str:
    """The whole report as HTML text.

    Args:
        scorecard: the long table of ``reporting.scorecard``.
        cohort: samples and donors per tissue and split.
        reconstruction: quality of the reconstruction from real held-out landmarks.
        trainings: one row per training run, ``reporting.training_log.summary``.
        figures: titles and Plotly figures, in order.
        curves: the training curves, a figure per generator.
        facts: run settings shown at the top.
    """
    sizes = scorecard.groupby("space")["n"].min()
    parts = [
        "<h1>Synthetic expression profiles: scorecard</h1>",
        f'<p class="note">{" · ".join(f"{escape(str(k))}: {escape(str(v))}" for k, v in facts.items())} · '
        f"transcriptome-diffusion {escape(__version__)}</p>",
        "<p>Read every column against the <b>real</b> row, real training donors scored as if they were synthetic: "
        "that is the ceiling. A cell is marked where a generator lies closer to it than both simple generators "
        "(class Gaussian, class kernel density). Values are mean ± s.d. " + _spread_over(scorecard) + "</p>",
    ]
    for space in sizes.index:
        for reference, title in (
            ("test", "against held-out donors"),
            ("train", "against training donors (the paper's protocol; copying is rewarded here)"),
        ):
            parts.append(f"<h2>{escape(space.capitalize())}, {title}</h2>")
            parts.append(f'<p class="note">{int(sizes[space])} profiles on each side, same tissue composition.</p>')
            parts.append(scorecard_table(scorecard, space, reference))
    for title, figure in figures.items():
        parts.append(f"<h2>{escape(title)}</h2>{_embedded(figure)}")
    parts.append(f"<h2>Training</h2>{_plain_table(trainings)}")
    parts += [_embedded(figure) for figure in curves]
    parts.append("<h2>Reconstruction of the transcriptome from real held-out landmarks</h2>")
    parts.append(_plain_table(reconstruction))
    parts.append(f"<h2>Cohort</h2>{_plain_table(cohort)}")
    guide = "".join(f"<dt>{escape(k.replace('_', ' '))}</dt><dd>{escape(v)}</dd>" for k, v in GUIDE.items())
    parts.append(f"<h2>How to read the numbers</h2><dl>{guide}</dl>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Synthetic expression profiles</title>'
        f"<style>{STYLE}</style><script>{get_plotlyjs()}</script></head><body>{''.join(parts)}</body></html>"
    )


def _spread_over(scorecard: pd.DataFrame) -> str:
    """What the scorecard's deviations are taken over, in words."""
    if (runs := int(scorecard["runs"].max())) == 1:
        return (
            "over repeated matched draws, and over classifier seeds for accuracies; the spread between trainings "
            "is not in them (<code>--params runs=3</code> shows it)."
        )
    return (
        f"between {runs} training runs of each generator, each scored on repeated matched draws; rows without a "
        "training (real, memoriser, oracle) have their deviation between draws, and between classifier seeds."
    )


def _embedded(figure: go.Figure) -> str:
    return figure.to_html(full_html=False, include_plotlyjs=False)


def _plain_table(table: pd.DataFrame) -> str:
    rounded = table.apply(lambda c: c.round(3) if np.issubdtype(c.dtype, np.floating) else c)
    return f'<div class="scroll">{rounded.to_html(index=False, border=0, na_rep="–")}</div>'
