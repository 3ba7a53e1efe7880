"""Whether an analyst would find the same biology: tests between groups, marker genes, modules, gene sets.

Each part first turns a set of profiles into a small summary, so that the real side is read once for all rows, then
compares two summaries: a table with a row per contrast, group, module or gene set. ``summarise`` makes numbers of it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd


def summarise(table: pd.DataFrame, prefix: str = "") -> dict[str, float]:
    """Mean of every column of indicators over the rows where it is defined; NaN where it is nowhere defined.

    Args:
        table: of ``agreement``, ``marker_recovery``, ``preservation`` or ``gene_set_agreement``; its columns of type
            float are indicators, counts and texts are not. A column ``<name>_weight`` weighs the rows of ``<name>``.
        prefix: put before every name.
    """
    indicators = table.select_dtypes(include="float")
    found = {}
    for name in [column for column in indicators if not str(column).endswith("_weight")]:
        values = indicators[name].dropna()
        weights = indicators[f"{name}_weight"][values.index] if f"{name}_weight" in indicators else None
        found[f"{prefix}{name}"] = float(np.average(values, weights=weights)) if len(values) else np.nan
    return found
