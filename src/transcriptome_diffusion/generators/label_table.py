"""The labels of profiles that are asked for: ``{"lung": 500}`` becomes a table with a row per profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from transcriptome_diffusion.generators.base import Generator

#: between the labels of several conditions
SEPARATOR = "|"


def label_table(model: Generator, profiles: Mapping[str, int] | None = None, total: int | None = None) -> pd.DataFrame:
    """The labels of the profiles that are asked for, a row each, with a column per condition of the model.

    Args:
        profiles: how many by label, ``{"lung": 500}``. With several conditions a label is their values in the model's
            order, joined by ``|``; one that names the first condition alone is shared out as in training. A combination
            that no training profile has is taken as it is: networks add up what they learnt of its parts.
        total: without ``profiles``, how many in all, in the proportions of training; None for as many as in training.

    Raises:
        ValueError: if a label is unknown, a number is no positive whole number, or nothing is asked for.
    """
    names = list(model.conditions.names)
    known = pd.DataFrame(model.record.get("training_labels") or [], columns=[*names, "count"])
    if known.empty:  # of a model that was not fitted by a pipeline
        every = pd.MultiIndex.from_product(list(model.conditions.categories.values()), names=names)
        known = every.to_frame(index=False).assign(count=1)
    if not profiles:
        return _shared_out(known, int(known["count"].sum()) if total is None else total)
    parts = []
    for label, number in profiles.items():
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
            raise ValueError(f"{label}: {number!r} profiles were asked for; expected a whole number, 1 or more.")
        values = str(label).split(SEPARATOR)
        fits = pd.Series(len(values) <= len(names), index=known.index)
        for name, value in zip(names, values, strict=False):
            fits &= known[name].astype(str) == value
        if not fits.any() and len(values) == len(names) and _all_known(values, model.conditions.categories):
            parts.append(pd.DataFrame([dict(zip(names, values, strict=True))] * number))
            continue
        if not fits.any():
            labels = sorted({SEPARATOR.join(map(str, row)) for row in known[names].itertuples(index=False)})
            raise ValueError(f"the model knows no {SEPARATOR.join(names)} {label!r}; it knows {', '.join(labels)}.")
        parts.append(_shared_out(known[fits], int(number)))
    return pd.concat(parts, ignore_index=True)


def mark_extrapolated(obs: pd.DataFrame, training_labels: Sequence[Sequence[Any]]) -> pd.DataFrame:
    """The labels ``obs``, a column per condition, with ``extrapolated``: whether training lacks their combination.

    Unchanged with one condition, or if nothing is known of the training profiles.

    Args:
        training_labels: of the model's record, ``[["lung", "tumor", 100], ...]``.
    """
    if obs.shape[1] < 2 or not training_labels:
        return obs
    known = pd.MultiIndex.from_tuples([tuple(map(str, row[:-1])) for row in training_labels])
    return obs.assign(extrapolated=~pd.MultiIndex.from_frame(obs).isin(known))


def _all_known(values: Sequence[str], categories: Mapping[str, Sequence[str]]) -> bool:
    return all(value in known for value, known in zip(values, categories.values(), strict=True))


def _shared_out(known: pd.DataFrame, total: int) -> pd.DataFrame:
    """``total`` rows in the proportions of ``count``, by largest remainders."""
    if total < 1:
        raise ValueError(f"{total} profiles were asked for; expected 1 or more.")
    exact = known["count"].to_numpy(dtype=float) / known["count"].sum() * total
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1
    return known.drop(columns="count").loc[known.index.repeat(counts)].reset_index(drop=True)
