"""The one shape in which profiles travel: AnnData, float32, samples x genes, with a declared unit.

``obs`` holds ``tissue``, ``donor``, ``study`` and further covariates; ``var`` holds ``symbol``, ``entrez_id``,
``ensembl_id`` and ``is_landmark``; ``uns["unit"]`` names the unit, for instance ``log2(FPKM + 1)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

#: rows that are looked at together
BLOCK = 512
GENE_COLUMNS = ("symbol", "entrez_id", "ensembl_id", "is_landmark")


def make_profiles(
    values: np.ndarray,
    obs: pd.DataFrame,
    var: pd.DataFrame,
    unit: str,
    generator: Mapping[str, Any] | None = None,
    *,
    missing: bool = False,
) -> ad.AnnData:
    """Bundle values (n_samples, n_genes) with their sample and gene tables; float32, the tables are copied.

    ``generator`` (name, seed, settings) marks synthetic profiles and lands in ``uns["generator"]``. With
    ``missing``, NaN stands for values that were not measured, until ingestion deals with them.

    Raises:
        ValueError: if values hold infinities, or NaN without ``missing``, or an index repeats itself.
    """
    values = np.ascontiguousarray(values, dtype=np.float32)
    if unsound := find_unsound(values, missing):
        count, row, column = unsound
        raise ValueError(
            f"{count} of {values.size} values are {'' if missing else 'NaN or '}infinite, the first in "
            f"sample {obs.index[row]!r}, gene {var.index[column]!r}; profiles must be finite."
        )
    for what, index in (("sample", obs.index), ("gene", var.index)):
        if not index.is_unique:
            raise ValueError(f"{what} names repeat, for instance {index[index.duplicated()][0]!r}.")
    profiles = ad.AnnData(X=values, obs=obs.copy(), var=var.copy())
    profiles.uns["unit"] = unit
    if generator is not None:
        profiles.uns["generator"] = dict(generator)
    return profiles


def dense(profiles: ad.AnnData) -> np.ndarray:
    """The values of ``profiles`` as a plain (n_samples, n_genes) array, without a copy where it is dense."""
    values = profiles.X
    return values.toarray() if hasattr(values, "toarray") else np.asarray(values)


def donors_of(profiles: ad.AnnData) -> np.ndarray:
    """The donor of every profile as text, (n_samples,); without a column of donors every profile is its own."""
    return profiles.obs.get("donor", profiles.obs_names.to_series()).astype(str).to_numpy()


def blocks_of(profiles: ad.AnnData) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows of ``profiles`` and their values, some hundred at a time; of a view only so many are copied at once."""
    for start in range(0, profiles.n_obs, BLOCK):
        rows = slice(start, min(start + BLOCK, profiles.n_obs))
        yield rows, dense(profiles[rows])


def find_unsound(values: np.ndarray, missing: bool = False) -> tuple[int, int, int] | None:
    """How many values (n_samples, n_genes) are infinite or, unless they may be ``missing``, NaN.

    Returns:
        The count, with row and column of the first one; None if there is none.
    """
    count, first = 0, (0, 0)
    for start in range(0, len(values), BLOCK):  # a mask of all values would take a quarter of their memory
        block = values[start : start + BLOCK]
        unsound = np.isinf(block) if missing else ~np.isfinite(block)
        if not unsound.any():
            continue
        if count == 0:
            row, column = np.argwhere(unsound)[0]
            first = (start + int(row), int(column))
        count += int(unsound.sum())
    return (count, *first) if count else None


def require_same_genes(profiles: ad.AnnData, genes: pd.Index, model: str) -> None:
    """Refuse profiles whose genes or their order differ from those a model was fitted on.

    Raises:
        ValueError: naming how many genes are missing or unknown.
    """
    if profiles.var_names.equals(genes):
        return
    missing, unknown = genes.difference(profiles.var_names), profiles.var_names.difference(genes)
    if len(missing) or len(unknown):
        what = (
            f"{len(missing)} genes of the model are missing (first: {list(missing[:3])}) and "
            f"{len(unknown)} are unknown to it (first: {list(unknown[:3])})"
        )
    else:
        what = "the genes are the same but stand in another order"
    raise ValueError(
        f"{model} was fitted on {len(genes)} genes, the profiles have {profiles.n_vars}: {what}. "
        "Select and order the genes as in training, or train again on these profiles."
    )


def genes_to_json(genes: pd.DataFrame) -> dict[str, list[Any]]:
    """A gene table as plain JSON, for the description of a model."""
    return {"index": list(genes.index), **{str(column): genes[column].tolist() for column in genes}}


def genes_from_json(columns: Mapping[str, list[Any]]) -> pd.DataFrame:
    """The gene table that ``genes_to_json`` wrote."""
    return pd.DataFrame(columns).set_index("index").rename_axis(None)


def split_runs(profiles: ad.AnnData) -> Iterator[tuple[int, ad.AnnData]]:
    """Run by run; profiles that know no runs are one, run 1."""
    if "run" not in profiles.obs:
        yield 1, profiles
        return
    for run in sorted(profiles.obs["run"].unique()):
        yield int(run), profiles[profiles.obs["run"].to_numpy() == run]
