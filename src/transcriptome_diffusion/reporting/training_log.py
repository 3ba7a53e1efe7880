"""How generators were trained: curves, what became of every run, and the picture of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

#: panels beside each other below the loss
COLUMNS = 3
LEGEND = {"#1f77b4": "training donors", "#d62728": "validation donors"}
#: columns of a curve that are no terms of a loss
CLOCKS = ("run", "step", "epoch", "learning_rate", "seconds")
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


def curves(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """All points of all runs: ``run``, ``step``, ``epoch``, terms of the loss, ``learning_rate``, ``seconds``."""
    points = [{"run": run, **point} for run, record in enumerate(records, start=1) for point in record["curve"]]
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


def figure(generator: str, table: pd.DataFrame) -> go.Figure:
    """Loss on training and validation donors and the learning rate above, further terms of the loss below.

    Args:
        table: what ``curves`` makes.
    """
    terms = [str(c) for c in table if c not in (*CLOCKS, "train_loss", "validation_loss")]
    panels = _paired(terms)
    rows = 1 + -(-len(panels) // COLUMNS)
    plot = make_subplots(
        rows, COLUMNS, vertical_spacing=0.28 / rows, horizontal_spacing=0.06,
        specs=[[{"secondary_y": True, "colspan": COLUMNS}, *[None] * (COLUMNS - 1)], *[[{}] * COLUMNS] * (rows - 1)],
        subplot_titles=["", *(names[0].replace("_", " ") for names in panels)],
        row_heights=[1.6, *[1.0] * (rows - 1)],
    )  # fmt: skip
    places = [(1, 1), *((2 + i // COLUMNS, 1 + i % COLUMNS) for i in range(len(panels)))]
    for (row, column), names in zip(places, [["train_loss", "validation_loss"], *panels], strict=True):
        for name, colour in zip(names, ("#1f77b4", "#d62728"), strict=False):
            for run, part in table.groupby("run"):
                line = go.Scatter(
                    x=part["step"].tolist(), y=part[name].tolist(), name=LEGEND[colour], legendgroup=colour,
                    mode="lines",
                    showlegend=bool(row == 1 and run == table["run"].min()), line={"color": colour, "width": 1.5},
                    hovertemplate=f"{name.replace('_', ' ')}, run {run}, step %{{x}}: %{{y:.4g}}<extra></extra>",
                )  # fmt: skip
                plot.add_trace(line, row=row, col=column)
    first = table[table["run"] == table["run"].min()]
    rate = go.Scatter(
        x=first["step"].tolist(),
        y=first["learning_rate"].tolist(),
        name="learning rate",
        line={"dash": "dot", "color": "#999999"},
    )
    plot.add_trace(rate, row=1, col=1, secondary_y=True)
    runs = table["run"].nunique()
    plot.update_layout(
        template="plotly_white", height=180 + 150 * rows, margin={"t": 60, "b": 40},
        title=f"Training of {generator}, by step" + (f", {runs} runs" if runs > 1 else ""),
    )  # fmt: skip
    plot.update_yaxes(title_text="loss", row=1, col=1, secondary_y=False)
    plot.update_yaxes(title_text="learning rate", row=1, col=1, secondary_y=True, showgrid=False, rangemode="tozero")
    return plot


def _paired(terms: Sequence[str]) -> list[list[str]]:
    """Every term of the training loss with that of the validation loss, where there is one."""
    own = [t for t in terms if not t.startswith("validation_") or t.removeprefix("validation_") not in terms]
    return [[t, *(v for v in terms if v == f"validation_{t}")] for t in own]
