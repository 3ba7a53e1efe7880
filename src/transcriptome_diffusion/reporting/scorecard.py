"""The scorecard: every indicator of every generator in one long table, with its spread and its sample size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from shutil import get_terminal_size
from typing import Any

import numpy as np
import pandas as pd

from transcriptome_diffusion.generators.registry import GENERATORS
from transcriptome_diffusion.metrics.registry import NO_RECONSTRUCTOR, select
from transcriptome_diffusion.reporting.guide import label

KEYS = ["generator", "reconstructor", "space", "reference", "metric"]
COLUMNS = [
    *("generator", "space", "reference", "metric", "mean", "sd", "runs", "n", "reconstructor"),
    *("low", "high", "smallest_difference", "note"),
]
#: of the single values behind the scorecard, and of the values of single tissues, contrasts and times
DRAW_COLUMNS = [
    *("generator", "reconstructor", "space", "run", "reference", "metric", "draw", "value", "n"),
    *("low", "high", "note"),
]
TISSUE_COLUMNS = ["generator", "reconstructor", "space", "metric", "label", "value", "low", "high", "n", "note"]

#: rows that are no generators under test, with their role
REFERENCE_ROWS = {
    "real": "ceiling",
    "refit": "limit",
    "expected": "null",
    "oracle": "oracle",
    "memoriser": "warning",
    **{name: spec.role for name, spec in GENERATORS.items() if spec.role},
}
ROLES = {
    "ceiling": "real training donors, scored as if they were synthetic",
    "limit": "a known Gaussian population of this size and structure, fitted again to its own draws and compared with "
    "fresh ones: what estimation error alone costs",
    "null": "values expected of new profiles from the population, where they are known",
    "oracle": "new draws from the simulated population",
    "warning": "resampled training profiles: a generator that memorises",
    "floor": "a simple generator that a trained model should beat",
}

#: the indicators a reader sees first, by what the profiles are compared with
HEADLINE = {reference: select(headline=reference) for reference in ("test", "train")}

#: column heads of the table in the log; where the width does not suffice, the first of these are shown
HEADS = {
    "precision": "precision",
    "recall": "recall",
    "two_sample_boosted": "boosted AUC",
    "balanced_accuracy_mlp": "bal. acc.",
    "domias_gaussian_auc": "attack AUC",
    "within_class_correlation": "corr. within",
    "adversarial_accuracy": "adv. acc.",
    "adversarial_accuracy_real": "real half",
    "adversarial_accuracy_synthetic": "synth. half",
    "spread": "spread",
    "copying": "copying",
    "frechet_pca": "Fréchet PCA",
    "density": "density",
}

#: standard deviations of a difference beyond which two values are called distinguishable
NOISE = 2.0
#: quantile of the standard normal behind intervals of 95 % and two-sided tests at 5 %; that behind a power of 80 %
NORMAL, POWER = 1.959964, 0.841621


def collect(tables: Sequence[pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The single values behind the scorecard, and the values of single tissues.

    Args:
        tables: one per generator, with the columns generator, reconstructor, space, run, reference, metric, label,
            draw, value, n, low, high, note. A run is a training; a draw is one matched subset, or one classifier
            seed, within it. ``label`` is empty for a value over all tissues; else it is a tissue, a contrast, or, of
            the loss attack, a time such as ``t=0.04``.

    Returns:
        The values without a label (``DRAW_COLUMNS``), which ``summarise`` takes; the values with one
        (``TISSUE_COLUMNS``), of the first run only, since tissues differ by far more than runs do.
    """
    single = pd.concat([table for table in tables if len(table)], ignore_index=True)
    whole = single["label"].fillna("").eq("")
    by_tissue = single.loc[~whole & single["run"].eq(1), TISSUE_COLUMNS]
    return single.loc[whole, DRAW_COLUMNS], by_tissue


def summarise(single: pd.DataFrame) -> pd.DataFrame:
    """Summarise single values to mean and standard deviation.

    Args:
        single: generator, reconstructor, space, reference, metric, run, draw, value, n, low, high, note.

    Returns:
        One row per generator, reconstructor, space, reference and metric: ``mean``, ``sd``, ``runs`` and ``n``,
        the number of profiles on each side of the comparison. With several runs ``sd`` is the deviation between their
        means; with one it is that between its draws, and empty if there is one draw only. ``low`` and ``high`` bound
        the mean (95 %, over other donors of the same cohort; of several runs the mean of their bounds),
        ``smallest_difference`` is that of ``smallest_differences``, ``note`` says why a mean is missing. Order of
        appearance is kept.
    """
    runs = single.groupby([*KEYS, "run"], sort=False)
    within = runs.agg(mean=("value", "mean"), std=("value", "std"), low=("low", "first"), high=("high", "first"))
    by_row, by_metric = within.groupby(KEYS, sort=False), single.groupby(KEYS, sort=False)
    table = by_row["mean"].agg(mean="mean", sd="std", runs="size")
    table["sd"] = table["sd"].where(table["runs"] > 1, by_row["std"].first())
    bounds = by_row[["low", "high"]]
    # where one run has no bound, the row has none
    table[["low", "high"]] = bounds.mean().where(bounds.count().eq(table["runs"], axis=0))
    notes = single[single["note"].fillna("") != ""].groupby(KEYS)["note"].agg(lambda part: max(part, key=len))
    table["n"], table["note"] = by_metric["n"].first(), notes.reindex(table.index).fillna("")
    found: pd.DataFrame = table.reset_index()
    return found.assign(smallest_difference=smallest_differences(found))[COLUMNS]


def smallest_differences(table: pd.DataFrame) -> pd.Series:
    """The power of every comparison with ``real``: the smallest difference that so many profiles can show.

    A true difference of this size is found with a probability of 80 % by a two-sided test at 5 %: (1.96 + .84)
    √(s² + s_real²), with the standard errors of both values. These are the half width of the 95 % interval over 1.96
    (over other donors), with several trainings also sd / √runs; without an interval sd, between draws or trainings; and
    of a row without either that of ``real``. For ``real`` itself it is the difference of a row that is as uncertain.

    Args:
        table: generator, space, reference, metric, mean, sd, runs, low, high.

    Returns:
        (n,), NaN where ``real`` has no standard error, where a value is missing, and for p-values and ``expected``.
    """
    half = (table["high"] - table["low"]).astype(float) / (2 * NORMAL)
    between = (table["sd"] / np.sqrt(table["runs"])).where(table["runs"] > 1, 0).fillna(0)
    error = np.hypot(half, between).fillna(table["sd"].astype(float))
    where = ["space", "reference", "metric"]
    real = table["generator"] == "real"
    errors = table.loc[real, where].assign(error=error[real]).drop_duplicates(where)
    of_real = table[where].merge(errors, on=where, how="left")["error"].set_axis(table.index)
    found = (NORMAL + POWER) * np.hypot(error.fillna(of_real), of_real)
    tested = ~table["metric"].str.endswith("_p") & (table["generator"] != "expected") & table["mean"].notna()
    return found.where(tested)


def row_names(scorecard: pd.DataFrame) -> pd.Series:
    """What a reader calls a row: the generator, and how its landmarks became transcriptomes, ``ddpm + ridge``."""
    rebuilt = scorecard["reconstructor"] != NO_RECONSTRUCTOR
    return scorecard["generator"].where(~rebuilt, scorecard["generator"] + " + " + scorecard["reconstructor"])


def role(row: str) -> str:
    """The role of a row that is no generator under test, whatever its reconstructor; else empty."""
    return REFERENCE_ROWS.get(row.partition(" + ")[0], "")


def wide(
    scorecard: pd.DataFrame, space: str, reference: str, what: str = "mean", metrics: Iterable[str] | None = None
) -> pd.DataFrame:
    """One block of the scorecard: generators as rows, indicators (``HEADLINE`` unless named) as columns.

    Indicators that only exist against ``train`` (copying, authenticity, privacy) are taken from there.
    """
    part = scorecard[scorecard["space"] == space]
    wanted = [*dict.fromkeys(HEADLINE[reference] if metrics is None else metrics)]
    own = set(part.loc[part["reference"] == reference, "metric"])
    elsewhere = (part["reference"] == "train") & ~part["metric"].isin(own)
    part = part[((part["reference"] == reference) | elsewhere) & part["metric"].isin(wanted)]
    part = part.assign(row=row_names(part))
    table = part.pivot(index="row", columns="metric", values=what)
    return table.reindex(index=[*dict.fromkeys(part["row"])], columns=[m for m in wanted if m in table.columns])


def deviations(
    scorecard: pd.DataFrame, space: str, reference: str, metrics: Iterable[str] | None = None
) -> pd.DataFrame:
    """How uncertain the means of ``wide`` are, in standard deviations.

    ``sd`` where there is one: between trainings or, with one training, between matched draws or classifier seeds.
    Single draws deviate more than their mean, so that ``sd`` is too large there; but one training does not show how
    much another would differ. Without ``sd``, the half width of the 95 % interval over 1.96. Without either, empty:
    nothing is then distinguishable.
    """
    sd, low, high = (wide(scorecard, space, reference, what, metrics) for what in ("sd", "low", "high"))
    return sd.astype(float).fillna((high.astype(float) - low.astype(float)) / (2 * NORMAL))


def distinguishable(difference: Any, sd: Any, other_sd: Any) -> Any:
    """Whether two values differ by more than the noise, ``NOISE`` √(sd² + sd'²); never where that is unknown."""
    return np.abs(difference) > NOISE * np.hypot(sd, other_sd)


def marks(scorecard: pd.DataFrame, space: str, reference: str, metrics: Iterable[str] | None = None) -> pd.DataFrame:
    """Which generators lie closest to ``real``, as far as the noise allows a statement.

    A generator is marked where it lies closer to the row ``real`` than every floor does, by more than the noise,
    and is not distinguishable from the closest generator: ``best`` if it is the only one, else ``shared``. A value
    beyond the ceiling is not better: a precision above that of real profiles means samples that vary too little.
    ``real`` marks cells of any other row that are not distinguishable from the real one; it goes with the two others,
    as in ``best real``. p-values are not marked.

    Returns:
        (rows, indicators) of text, empty where nothing is marked.
    """
    means = wide(scorecard, space, reference, metrics=metrics).astype(float)
    sd = deviations(scorecard, space, reference, metrics)
    if "real" not in means.index or means.empty:
        return pd.DataFrame("", index=means.index, columns=means.columns)
    roles = means.index.map(role)
    tested = ~means.columns.astype(str).str.endswith("_p")
    distance, noise = (means - means.loc["real"]).abs().to_numpy(), sd.to_numpy()
    unknown = np.isnan(distance)
    best = np.full(distance.shape, "", dtype=object)
    if (generators := np.flatnonzero(roles == "")).size:
        away, own, floors = distance[generators], noise[generators], roles == "floor"
        closest = np.where(unknown[generators], np.inf, away).argmin(axis=0), np.arange(len(tested))
        alike = ~unknown[generators] & ~distinguishable(away - away[closest], own, own[closest])
        margin = distance[floors, None] - away  # (floors, generators, indicators)
        ahead = (margin > 0) & distinguishable(margin, noise[floors, None], own)
        ahead = (ahead | unknown[floors, None]).all(axis=0) & ~unknown[floors].all(axis=0)
        best[generators] = np.where(alike & ahead & tested, np.where(alike.sum(axis=0) == 1, "best", "shared"), "")
    real = means.index.to_numpy() == "real"
    same = ~unknown & ~np.isnan(noise) & ~distinguishable(distance, noise, noise[real]) & tested & ~real[:, None]
    found = np.where(same, np.where(best == "", "real", best + " real"), best)
    return pd.DataFrame(found, index=means.index, columns=means.columns)


def cells(scorecard: pd.DataFrame, space: str, reference: str, metrics: Iterable[str] | None = None) -> pd.DataFrame:
    """The block of ``wide`` as text, ``mean ±sd`` in every cell."""
    means, spread = (wide(scorecard, space, reference, what, metrics) for what in ("mean", "sd"))
    text = [
        [cell(mean, sd) for mean, sd in zip(*rows, strict=True)]
        for rows in zip(means.to_numpy(dtype=float), spread.to_numpy(dtype=float), strict=True)
    ]
    return pd.DataFrame(text, index=means.index, columns=means.columns)


def power_row(
    scorecard: pd.DataFrame, space: str, reference: str, metrics: Iterable[str] | None = None
) -> dict[str, str]:
    """Text of ``smallest_differences`` for the row ``real``, by indicator of ``wide``; empty without that row."""
    table = wide(scorecard, space, reference, "smallest_difference", metrics)
    if "real" not in table.index:
        return {}
    values = table.loc["real"].to_numpy(dtype=float)
    return {str(metric): cell(value, np.nan) for metric, value in zip(table, values, strict=True)}


def as_text(scorecard: pd.DataFrame, space: str, reference: str = "test", width: int | None = None) -> str:
    """The scorecard of one space as a plain table: mean ± s.d., no line longer than ``width`` characters.

    The last line is the smallest difference from ``real`` that so many profiles can show, ``power_row``.

    Columns are those of ``HEADLINE``. Where ``width`` does not suffice for all, the indicators that ``HEADS`` names
    first are shown, at least one.

    Args:
        width: of a line; None: that of the terminal.
    """
    width = get_terminal_size().columns if width is None else width
    size = scorecard.query("space == @space and reference == @reference and n > 0")["n"].min()
    table = cells(scorecard, space, reference).replace(r"±0\.", "±.", regex=True)
    if found := power_row(scorecard, space, reference):
        table.loc["smallest diff."] = found
    least_telling = sorted(map(str, table), key=lambda metric: [*HEADS, metric].index(metric))
    table = table.rename_axis(index=None, columns=None)
    while (text := _plain(table)) and len(text.partition("\n")[0]) > width and table.shape[1] > 1:
        table = table.drop(columns=least_telling.pop())
    return f"{space} against {reference}, {int(size)} profiles a side\n{text}"


def _plain(table: pd.DataFrame) -> str:
    return table.rename(columns=lambda metric: HEADS.get(metric) or label(metric)).to_string()


def cell(mean: float, sd: float) -> str:
    """``0.962 ±0.011``, two decimals from 10 on, powers of ten for what would round to 0; dash for an empty mean."""
    if not np.isfinite(mean):
        return "–"
    form = ".1e" if 0 < abs(mean) < 0.0005 else ".3f" if abs(mean) < 10 else ".2f"
    return f"{mean:{form}}" if not np.isfinite(sd) else f"{mean:{form}} ±{sd:{form}}"
