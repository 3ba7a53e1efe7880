"""The scorecard: every indicator of every generator in one long table, with its spread and its sample size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

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

#: the indicators a reader sees first, by what the profiles are compared with
HEADLINE = {
    "test": (
        "precision",
        "recall",
        "density",
        "spread",
        "adversarial_accuracy",
        "two_sample_boosted",
        "frechet_pca",
        "within_class_correlation",
        "balanced_accuracy_mlp",
        "copying",
        "domias_gaussian_auc",
    ),
    "train": (
        "precision",
        "recall",
        "f1",
        "density",
        "coverage",
        "spread",
        "adversarial_accuracy",
        "frechet_pca",
        "frechet_classifier",
        "correlation",
        "authenticity",
        "copying",
    ),
}

#: standard deviations of a difference beyond which two values are told apart
NOISE = 2.0
#: quantile of the standard normal behind intervals of 95 %
NORMAL = 1.959964


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


def as_rows(privacy: pd.DataFrame) -> pd.DataFrame:
    """The table ``privacy`` in the scorecard's shape, where its numbers stand beside ``copying``.

    Values are means over runs, ``sd`` is their deviation between runs, empty with one; ``low`` and ``high`` are the
    means of the bounds.
    """
    by = privacy.groupby(["generator", "metric"], sort=False)
    table = by["value"].agg(mean="mean", sd="std", runs="size").join(by[["low", "high"]].mean())
    table = table.join(by.agg(n=("n", "first"), note=("note", "first"))).reset_index()
    return table.assign(space="landmarks", reference="train", reconstructor=NO_WAY)


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
    Single draws deviate more than their mean, so that ``sd`` errs to the wide side there; but one training says
    nothing of how much another would differ. Without
    ``sd``, the half width of the 95 % interval over 1.96. Without either, empty: nothing can then be told apart.
    """
    sd, low, high = (wide(scorecard, space, reference, what, metrics) for what in ("sd", "low", "high"))
    return sd.astype(float).fillna((high.astype(float) - low.astype(float)) / (2 * NORMAL))


def told_apart(difference: Any, sd: Any, other_sd: Any) -> Any:
    """Whether two values differ by more than the noise, ``NOISE`` √(sd² + sd'²); never where that is unknown."""
    return np.abs(difference) > NOISE * np.hypot(sd, other_sd)


def marks(scorecard: pd.DataFrame, space: str, reference: str, metrics: Iterable[str] | None = None) -> pd.DataFrame:
    """Which generators lie closest to ``real``, as far as the noise allows to say so.

    A generator is marked where it lies closer to the row ``real`` than every floor does, by more than the noise,
    and cannot be told from the closest generator: ``best`` if it is the only one, else ``shared``. Beyond the ceiling
    is not better: a precision above that of real profiles means shrunken samples. ``real`` marks cells of any other row
    that cannot be told from the real one; it goes with the two others, as in ``best real``. p-values are not marked.

    Returns:
        (rows, indicators) of text, empty where nothing is marked.
    """
    means = wide(scorecard, space, reference, metrics=metrics).astype(float)
    sd = deviations(scorecard, space, reference, metrics)
    found = pd.DataFrame("", index=means.index, columns=means.columns)
    if "real" not in means.index:
        return found
    distance = (means - means.loc["real"]).abs()
    roles = means.index.map(role)
    generators, floors = means.index[roles == ""], means.index[roles == "floor"]
    for metric in [m for m in map(str, means) if not m.endswith("_p")]:
        away, noise = distance[metric], sd[metric]
        same = away.notna() & noise.notna() & ~told_apart(away, noise, noise["real"])
        found.loc[same & (found.index != "real"), metric] = "real"
        present = away[generators].dropna()
        if present.empty or away[floors].isna().all():
            continue
        closest = str(present.idxmin())
        alike = present.index[~told_apart(present - present[closest], noise[present.index], noise[closest])]
        for row in map(str, alike):
            margin = away[floors].dropna() - away[row]
            if ((margin > 0) & told_apart(margin, noise[margin.index], noise[row])).all():
                mark = "best" if len(alike) == 1 else "shared"
                found.loc[row, metric] = " ".join([mark, str(found.loc[row, metric])]).strip()
    return found


def cells(scorecard: pd.DataFrame, space: str, reference: str, metrics: Iterable[str] | None = None) -> pd.DataFrame:
    """The block of ``wide`` as text, ``mean ±sd`` in every cell."""
    means, spread = (wide(scorecard, space, reference, what, metrics) for what in ("mean", "sd"))
    text = [
        [cell(mean, sd) for mean, sd in zip(*rows, strict=True)]
        for rows in zip(means.to_numpy(dtype=float), spread.to_numpy(dtype=float), strict=True)
    ]
    return pd.DataFrame(text, index=means.index, columns=means.columns)


def as_text(scorecard: pd.DataFrame, space: str, reference: str = "test") -> str:
    """The scorecard of one space as a plain table for the log: mean ± s.d."""
    sizes = scorecard.query("space == @space and reference == @reference")["n"]
    short = {
        "adversarial_accuracy": "adv_acc",
        "two_sample_boosted": "boosted",
        "within_class_correlation": "within_corr",
        "balanced_accuracy_mlp": "bal_acc_mlp",
    }
    table = cells(scorecard, space, reference).rename(columns=short)
    return f"{space} against {reference}, {int(sizes.min())} profiles a side\n{table.to_string()}"


def cell(mean: float, sd: float) -> str:
    """``0.962 ±0.011``, two decimals from 10 on, powers of ten for what would round to 0; dash for an empty mean."""
    if not np.isfinite(mean):
        return "–"
    form = ".1e" if 0 < abs(mean) < 0.0005 else ".3f" if abs(mean) < 10 else ".2f"
    return f"{mean:{form}}" if not np.isfinite(sd) else f"{mean:{form}} ±{sd:{form}}"
