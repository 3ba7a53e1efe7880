"""How generators were trained: curves, how every run ended, and figures of the curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from transcriptome_diffusion.reporting.style import finish, rounded

#: panels beside each other below the loss
COLUMNS = 3
LEGEND = {"#1f77b4": "training donors", "#d62728": "validation donors"}
LOSSES = ("train_loss", "validation_loss")
#: columns of a curve that are no terms of a loss
NO_TERMS = ("generator", "run", "step", "epoch", "learning_rate", "seconds", *LOSSES)
#: of a record, in the order of the table; what a generator does not record stays empty
FACTS = (
    "steps",
    "best_step",
    "best_validation_loss",
    "seconds",
    "parameters",
    "device",
    "precision",
    "latent_dimensions_in_use",
    "stopped",
)


def curves(generator: str, records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """All points of all runs.

    Columns: ``generator``, ``run``, ``step``, ``epoch``, terms of the loss, ``learning_rate``, ``seconds``.
    """
    points = [
        {"generator": generator, "run": run, **point}
        for run, record in enumerate(records, start=1)
        for point in record["curve"]
    ]
    return pd.DataFrame(points)


def summary(generator: str, records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per run: generator, run, and what its record says of the columns ``FACTS``."""
    rows = [
        {"generator": generator, "run": run, **{fact: record.get(fact) for fact in FACTS}}
        for run, record in enumerate(records, start=1)
    ]
    table = pd.DataFrame(rows)
    table["stopped"] = table["stopped"].fillna("at its last step")
    return table


def overview(curves: pd.DataFrame) -> go.Figure:
    """Loss by step on training and validation donors, a panel per trained generator, a line per run.

    Args:
        curves: what ``curves`` makes, of one or several generators.
    """
    names = [str(name) for name in curves["generator"].unique()]
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    plot = make_subplots(rows, columns, subplot_titles=names, horizontal_spacing=0.05, vertical_spacing=0.22 / rows)
    for i, name in enumerate(names):
        place = {"row": 1 + i // columns, "col": 1 + i % columns}
        part = curves[curves["generator"] == name]
        for line in _lines(part, LOSSES, legend=i == 0):
            plot.add_trace(line, **place)
        plot.update_yaxes(range=_bulk(part[[*LOSSES]].to_numpy(dtype=float)), **place)
    plot.update_xaxes(title_text="step", row=rows)
    plot.update_yaxes(title_text="loss", col=1)
    legend = {"orientation": "h", "x": 0.5, "xanchor": "center", "y": 1 + 40 / (200 * rows), "yanchor": "bottom"}
    return finish(plot, "Loss by step of every trained model", 130 + 200 * rows, legend=legend)


def _bulk(values: np.ndarray) -> list[float] | None:
    """A range for an axis that leaves out values far from the central 80 %, as of a diverged run."""
    found = values[np.isfinite(values)]
    if not found.size:
        return None
    low, high = np.quantile(found, [0.1, 0.9])
    beyond = 1.5 * (high - low)
    low, high = max(found.min(), low - beyond), min(found.max(), high + beyond)
    margin = 0.05 * (high - low) or 0.5
    return [float(low - margin), float(high + margin)]


def figure(generator: str, table: pd.DataFrame) -> go.Figure:
    """Loss on training and validation donors and the learning rate above, further terms of the loss below.

    Args:
        table: what ``curves`` makes, of one generator; columns without values are left out.
    """
    panels = _paired([str(c) for c in table if c not in NO_TERMS and table[c].notna().any()])
    rows = 1 + -(-len(panels) // COLUMNS)
    plot = make_subplots(
        rows, COLUMNS, vertical_spacing=0.28 / rows, horizontal_spacing=0.06,
        specs=[[{"secondary_y": True, "colspan": COLUMNS}, *[None] * (COLUMNS - 1)], *[[{}] * COLUMNS] * (rows - 1)],
        subplot_titles=["", *(names[0].replace("_", " ") for names in panels)],
        row_heights=[1.6, *[1.0] * (rows - 1)],
    )  # fmt: skip
    places = [(1, 1), *((2 + i // COLUMNS, 1 + i % COLUMNS) for i in range(len(panels)))]
    for (row, column), names in zip(places, [LOSSES, *panels], strict=True):
        for line in _lines(table, names, legend=row == 1):
            plot.add_trace(line, row=row, col=column)
    runs = table["run"].nunique()
    first = table[table["run"] == table["run"].min()]
    plot.add_scatter(
        x=first["step"].tolist(), y=rounded(first["learning_rate"], 8), name="learning rate",
        line={"dash": "dot", "color": "#999999"}, row=1, col=1, secondary_y=True,
    )  # fmt: skip
    plot.update_yaxes(title_text="loss", row=1, col=1, secondary_y=False)
    plot.update_yaxes(title_text="learning rate", row=1, col=1, secondary_y=True, showgrid=False, rangemode="tozero")
    title = f"Training of {generator}, by step" + (f", {runs} runs" if runs > 1 else "")
    return finish(plot, title, 180 + 150 * rows)


def _lines(table: pd.DataFrame, names: Sequence[str], legend: bool) -> list[go.Scatter]:
    """One line per term and run; the first term is that of training donors, the second that of validation donors."""
    return [
        go.Scatter(
            x=part["step"].tolist(), y=rounded(part[name], 6), name=LEGEND[colour], legendgroup=colour, mode="lines",
            showlegend=bool(legend and run == table["run"].min()), line={"color": colour, "width": 1.5},
            hovertemplate=f"{name.replace('_', ' ')}, run {run}, step %{{x}}: %{{y:.4g}}<extra></extra>",
        )
        for name, colour in zip(names, LEGEND, strict=False)
        for run, part in table.groupby("run")
    ]  # fmt: skip


def _paired(terms: Sequence[str]) -> list[list[str]]:
    """Every term of the training loss with that of the validation loss, where there is one."""
    own = [t for t in terms if not t.startswith("validation_") or t.removeprefix("validation_") not in terms]
    return [[t, *(v for v in terms if v == f"validation_{t}")] for t in own]
