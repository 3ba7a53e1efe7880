"""The scorecard: every indicator of every generator in one long table, with its spread and its sample size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

KEYS = ["generator", "reconstructor", "space", "reference", "metric"]
COLUMNS = [
    *("generator", "space", "reference", "metric", "mean", "sd", "runs", "n", "reconstructor"),
    *("low", "high", "note"),
]

#: in the column ``reconstructor``, of landmark profiles and of rows that are real transcriptomes
NO_WAY = "none"

#: rows that are no generators: the ceiling, the floors, the warning, the calibration
REFERENCE_ROWS = {
    "real": "ceiling: real training donors",
    "oracle": "fresh draws of the simulated population",
    "memoriser": "warning: resampled training profiles",
    "class_gaussian": "floor",
    "class_kde": "floor",
}

#: the indicators a reader sees first, in this order
HEADLINE = [
    "precision",
    "recall",
    "density",
    "coverage",
    "adversarial_accuracy",
    "correlation",
    "accuracy_mlp",
    "balanced_accuracy_mlp",
    "accuracy_logistic",
    "copying",
    "spread",
]


def collect(indicators: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Summarise single draws to mean and standard deviation.

    Args:
        indicators: tables with the columns generator, reconstructor, space, reference, metric, run, draw, value,
            n, low, high, note. A run is a training, a draw one matched subset, or one classifier seed, within it.

    Returns:
        One row per generator, reconstructor, space, reference and metric: ``mean``, ``sd``, ``runs`` and ``n``,
        the number of profiles on each side of the comparison. With several runs ``sd`` is the deviation between their
        means; with one it is that between its draws, and empty if there is one draw only. ``low`` and ``high`` bound
        the mean (95 %, over other donors of the same cohort; of several runs the mean of their bounds), ``note`` says
        why a mean is missing. Order of appearance is kept.
    """
    single = pd.concat(indicators, ignore_index=True)
    single["note"] = single["note"].fillna("")
    runs = single.groupby([*KEYS, "run"], sort=False)
    within = runs.agg(mean=("value", "mean"), std=("value", "std"), low=("low", "first"), high=("high", "first"))
    by_row = within.groupby(KEYS, sort=False)
    table = by_row["mean"].agg(mean="mean", sd="std", runs="size")
    table["sd"] = table["sd"].where(table["runs"] > 1, by_row["std"].first())
    # a bound that one run lacks, the row lacks
    table["low"], table["high"] = (by_row[side].agg(lambda part: part.mean(skipna=False)) for side in ("low", "high"))
    by_metric = single.groupby(KEYS, sort=False)
    table["n"], table["note"] = by_metric["n"].first(), by_metric["note"].agg(lambda part: max(part, key=len))
    return table.reset_index()[COLUMNS]


def row_names(scorecard: pd.DataFrame) -> pd.Series:
    """What a reader calls a row: the generator, and how its landmarks became transcriptomes, ``ddpm + ridge``."""
    rebuilt = scorecard["reconstructor"] != NO_WAY
    return scorecard["generator"].where(~rebuilt, scorecard["generator"] + " + " + scorecard["reconstructor"])


def role(row: str) -> str:
    """What a row is there for, if it is no generator under test; floors are floors by every way."""
    return REFERENCE_ROWS.get(row.partition(" + ")[0], "")


def wide(scorecard: pd.DataFrame, space: str, reference: str, what: str = "mean") -> pd.DataFrame:
    """One table cell block of the scorecard: generators as rows, headline indicators as columns."""
    part = scorecard.query("space == @space and (reference == @reference or metric == 'copying')")
    part = part.assign(row=row_names(part))
    table = part.pivot_table(index="row", columns="metric", values=what, sort=False, dropna=False)
    rows = list(dict.fromkeys(part["row"]))
    return table.reindex(index=rows, columns=[m for m in HEADLINE if m in table.columns])


def closer_than_floors(means: pd.DataFrame) -> pd.DataFrame:
    """Where a generator lies closer to the ``real`` row than every floor does, (generators, metrics) bool.

    Beyond the ceiling is not better: a precision above that of real profiles means shrunken samples.
    """
    distance = (means - means.loc["real"]).abs()
    floors = [row for row in means.index if role(row) == "floor"]
    generators = [row for row in means.index if not role(row)]
    better = distance.loc[generators] < distance.loc[floors].min()
    return better.reindex(means.index, fill_value=False)


def cells(scorecard: pd.DataFrame, space: str, reference: str) -> pd.DataFrame:
    """The block of ``wide`` as text, ``mean ±sd`` in every cell."""
    means, spread = (wide(scorecard, space, reference, what) for what in ("mean", "sd"))
    text = [
        [cell(mean, sd) for mean, sd in zip(*rows, strict=True)]
        for rows in zip(means.to_numpy(dtype=float), spread.to_numpy(dtype=float), strict=True)
    ]
    return pd.DataFrame(text, index=means.index, columns=means.columns)


def as_text(scorecard: pd.DataFrame, space: str, reference: str = "test") -> str:
    """The scorecard of one space as a plain table for the log: mean ± s.d."""
    sizes = scorecard.query("space == @space and reference == @reference")["n"]
    short = {"adversarial_accuracy": "adv_acc", "balanced_accuracy_mlp": "bal_acc_mlp"}
    table = cells(scorecard, space, reference).rename(columns=short)
    return f"{space} against {reference}, {int(sizes.min())} profiles a side\n{table.to_string()}"


def cell(mean: float, sd: float) -> str:
    """``.962 ±.011``; an empty spread is left out, an empty mean shown as a dash."""
    if not np.isfinite(mean):
        return "–"
    text = f"{mean:.3f}"
    return text if not np.isfinite(sd) else f"{text} ±{sd:.3f}"
