"""A cohort of one's own: one matrix, one sample table, if need be one gene table; columns and unit are named in YAML.

The matrix is text (TSV, CSV; plain or gzipped), GCT 1.2, Parquet or ``.h5ad``, with genes in rows or in columns.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import polars as pl

from transcriptome_diffusion.cohorts.annotations import read_annotations
from transcriptome_diffusion.cohorts.options import OwnOptions
from transcriptome_diffusion.cohorts.tables import MISSING, Matrix, read_gct, read_matrix
from transcriptome_diffusion.expression.identifiers import identify, without_version
from transcriptome_diffusion.expression.labels import as_text
from transcriptome_diffusion.expression.profiles import dense, make_profiles
from transcriptome_diffusion.expression.units import detect_unit, undo_log

logger = logging.getLogger(__name__)

#: columns of the sample table that are read under these names unless others are named
KNOWN_COLUMNS = ("tissue", "donor", "study", "sample_type")
GENE_COLUMNS = ("symbol", "entrez_id", "ensembl_id")

_KIND = re.compile(r"\.(csv|gct|parquet|h5ad)(\.gz)?$", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class _Matrix:
    """``values`` is (n_samples, n_genes); the tables and the unit are there where the file brings them."""

    samples: list[str]
    genes: list[str]
    values: np.ndarray
    obs: pd.DataFrame | None = None
    var: pd.DataFrame | None = None
    unit: str | None = None


def read_own(path: Path, options: OwnOptions) -> ad.AnnData:
    """Read a matrix and the tables beside it, and bring them into the project's shape.

    Samples of the matrix without a row in the sample table are left out and named. Without a column for ``donor``
    every sample counts as a donor of its own. Gene identifiers are recognised
    (``expression.identifiers``), and no gene is made up: what is not measured is not there.

    Returns:
        (n_samples, n_genes), linear, NaN where a cell is empty. ``obs``: ``donor``, ``study`` (``own`` unless a
        column is named) and every further named column, the class label among them.

    Raises:
        FileNotFoundError: if the matrix or a table is missing.
        ValueError: if a file is broken, tables and matrix do not belong together, identifiers are mixed, a sample
            repeats, or the unit contradicts the values.
    """
    if not path.is_file():
        raise FileNotFoundError(f"the matrix {path} does not exist; set `filepath` of the cohort in the catalog.")
    table = (
        None if options.samples is None else _read_samples(path.parent / Path(options.samples).expanduser(), options)
    )
    matrix = _read_matrix(path, options, table)
    obs = _sample_table(path, matrix, table, options)
    kept, var = _gene_table(path, matrix, options)
    rows = pd.Index(matrix.samples).get_indexer(obs.index)
    values = matrix.values
    if len(rows) < len(values) or len(kept) < len(matrix.genes):
        values = values[np.ix_(rows, kept)]
    unit = options.unit or matrix.unit or detect_unit(values)
    linear = undo_log(values, unit, options.negative)
    logger.info(
        "Read %d samples of %d donors, %d genes, in %s from %s",
        len(obs),
        obs["donor"].nunique(),
        len(var),
        unit,
        path,
    )
    cohort = make_profiles(values, obs, var, linear, missing=True)
    cohort.uns["declared_unit"] = unit
    return cohort


def _read_matrix(path: Path, options: OwnOptions, table: pd.DataFrame | None) -> _Matrix:
    found = _KIND.search(path.name)
    kind = found[1].lower() if found else "text"
    if kind == "h5ad":
        return _read_h5ad(path)
    if table is None:
        raise ValueError(f"{path} brings no sample table; set `samples` in the options of the cohort in the catalog.")
    if kind == "parquet":
        across, down, symbols, values = _read_parquet(path)
    else:
        read = read_gct if kind == "gct" else _read_text(kind, options)
        text = read(path, missing="nan", on_repeated_samples="keep")  # the columns may be genes
        across, down, symbols, values = text.samples, text.genes, text.descriptions, text.values
        if not text.id_columns and across[0] not in table.index and table.index.isin(across).any():
            raise ValueError(
                f"{path}: the header has a cell less than the rows, as R writes it, yet begins with {across[0]!r}, "
                "which is no sample of the sample table. Complete the header."
            )
    if options.genes_in == "columns" or (options.genes_in is None and _samples_go_down(path, across, down, table)):
        return _Matrix(down, across, np.ascontiguousarray(values.T))
    return _Matrix(across, down, values, var=pd.DataFrame({"symbol": symbols}) if symbols else None)


def _read_text(kind: str, options: OwnOptions) -> partial[Matrix]:
    separator = options.separator or ("," if kind == "csv" else "\t")
    return partial(read_matrix, separator=separator, id_columns=options.id_columns)


def _samples_go_down(path: Path, across: list[str], down: list[str], table: pd.DataFrame) -> bool:
    """Whether the sample table's ids are the file's rows and not its columns."""
    found_across, found_down = (table.index.isin(names).sum() for names in (across, down))
    if found_across == found_down == 0:
        raise _no_shared_sample(path, [*across[:2], *down[:2]], table)
    return bool(found_down > found_across)


def _no_shared_sample(path: Path, names: list[str], table: pd.DataFrame) -> ValueError:
    """Matrix and sample table have no sample in common."""
    spelling = {re.sub(r"\W|_", "", name).lower() for name in table.index}
    alike = [name for name in names if re.sub(r"\W|_", "", name).lower() in spelling]
    hint = (
        f" {alike[0]!r} differs only in its punctuation: R turns dashes into dots."
        if alike
        else " Is `columns: {sample: ...}` the column with the names that the matrix uses?"
    )
    return ValueError(
        f"the sample table matches no sample of {path}: it begins with {list(table.index[:2])}, the matrix names "
        f"{names}.{hint}"
    )


def _read_parquet(path: Path) -> tuple[list[str], list[str], list[str], np.ndarray]:
    """Names of the value columns, first and second column of text, and values (columns, rows)."""
    try:
        table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"{path} is not a sound Parquet file: {error}") from error
    texts = [column for column, kind in table.schema.items() if not kind.is_numeric()]
    if len(texts) not in (1, 2):
        raise ValueError(
            f"{path} has {len(texts)} columns that are not numbers ({texts[:5]}); expected one, of gene or sample ids "
            "(as text, Entrez ids too), or a second one of symbols."
        )
    names = [table[column].cast(pl.String).fill_null("").to_list() for column in texts]
    values = table.drop(texts)
    return values.columns, names[0], names[1] if len(names) == 2 else [], values.cast(pl.Float32).to_numpy().T


def _read_h5ad(path: Path) -> _Matrix:
    try:
        cohort = ad.read_h5ad(path)
    except (OSError, KeyError) as error:
        raise ValueError(f"{path} is not a sound .h5ad file: {error}") from error
    if cohort.X is None:
        raise ValueError(f"{path} has no values in X, only the layers {list(cohort.layers)}. Move one of them to X.")
    return _Matrix(
        list(cohort.obs_names),
        list(cohort.var_names),
        np.array(dense(cohort), dtype=np.float32, order="C"),
        cohort.obs,
        cohort.var,
        cohort.uns.get("unit"),
    )


def _read_table(path: Path, options: OwnOptions, needed: list[str], what: str) -> pd.DataFrame:
    table = read_annotations(
        path,
        needed,
        separator="," if ".csv" in path.name.lower() else "\t",
        encoding=options.encoding,
        quoted=True,
        mend=f"Set `{what}` in the options of the cohort in the catalog.",
    )
    if repeated := sorted(set(table.columns[table.columns.duplicated()]) - {""}):
        raise ValueError(f"{path} has several columns called {repeated[0]!r}. Rename or remove all but one.")
    return table


def _read_samples(path: Path, options: OwnOptions) -> pd.DataFrame:
    """The sample table, by sample."""
    named = options.columns.get("sample")
    table = _read_table(path, options, [named] if named else [], "samples` and `columns")
    return table.set_index(named or ("sample" if "sample" in table else table.columns[0]))


def _sample_table(path: Path, matrix: _Matrix, table: pd.DataFrame | None, options: OwnOptions) -> pd.DataFrame:
    """``obs`` of the samples that are in the matrix and in the table, in the order of the matrix."""
    if table is None:
        table = pd.DataFrame() if matrix.obs is None else matrix.obs
    columns = {name: name for name in KNOWN_COLUMNS if name in table}
    columns |= {ours: yours for ours, yours in options.columns.items() if ours != "sample"}
    if missing := {ours: yours for ours, yours in columns.items() if yours not in table}:
        ours, yours = next(iter(missing.items()))
        raise ValueError(
            f"the sample table {options.samples or path} has no column {yours!r} for {ours}; its columns are "
            f"{list(table)[:12]}. Name it in `columns` of the cohort in the catalog, as in columns: {{{ours}: ...}}."
        )
    for what, names in (("the matrix", pd.Index(matrix.samples)), ("the sample table", table.index)):
        repeated = names[names.duplicated()].unique()
        if len(repeated := repeated.intersection(matrix.samples)):
            raise ValueError(
                f"{len(repeated)} samples come several times in {what} of {path}: {', '.join(repeated[:5])}. "
                "Remove the copies."
            )
    shared = pd.Index([sample for sample in matrix.samples if sample in table.index], name="sample")
    if shared.empty:
        raise _no_shared_sample(path, matrix.samples[:2], table)
    obs = pd.DataFrame({ours: table.loc[shared, yours].to_numpy() for ours, yours in columns.items()}, index=shared)
    for column in obs.columns.intersection(list(KNOWN_COLUMNS)):
        obs[column] = as_text(obs[column])
    if len(unknown := pd.Index(matrix.samples).difference(shared)):
        logger.warning(
            "Left out %d of %d samples without a row in the sample table: %s",
            len(unknown),
            len(matrix.samples),
            ", ".join(unknown[:10]),
        )
    for column, fallback in (("donor", obs.index), ("study", "own")):
        if column not in obs:
            obs[column] = fallback
    if "donor" not in columns:
        logger.warning("No column for the donor is named: every sample counts as a donor of its own")
    return obs


def _gene_table(path: Path, matrix: _Matrix, options: OwnOptions) -> tuple[np.ndarray, pd.DataFrame]:
    """Positions of the kept genes and ``var``: what the ids say, and where a gene table says more, that."""
    kept, var = identify(matrix.genes, kind=options.gene_ids, where=str(path))
    known = matrix.var.iloc[kept] if matrix.var is not None else pd.DataFrame(index=var.index)
    if options.genes is not None:
        table = _read_table(
            path.parent / Path(options.genes).expanduser(),
            options,
            list(options.gene_columns.values()),
            "genes` and `gene_columns",
        )
        key = options.gene_columns.get("gene", "gene" if "gene" in table else table.columns[0])
        table = table.drop_duplicates(key).set_index(key)
        ids = pd.Index([matrix.genes[place] for place in kept])
        if not ids.isin(table.index).any():  # the one may carry versions, the other not
            ids, table.index = ids.map(without_version), table.index.map(without_version)
            table = table[~table.index.duplicated()]
        if not ids.isin(table.index).any():
            raise ValueError(
                f"the gene table {options.genes} matches no gene of {path}: column {key!r} begins with "
                f"{list(table.index[:2])}, the matrix with {matrix.genes[:2]}."
            )
        known = table.reindex(ids)
        if not {options.gene_columns.get(column, column) for column in GENE_COLUMNS}.intersection(known):
            raise ValueError(
                f"the gene table {options.genes} has none of {list(GENE_COLUMNS)} but {[key, *known][:12]}. Name its "
                "columns in `gene_columns` of the cohort in the catalog."
            )
    for column in GENE_COLUMNS:
        if (yours := options.gene_columns.get(column, column)) in known:
            said = known[yours].astype(object).where(known[yours].notna(), "").astype(str).to_numpy()
            if column != "symbol":  # an Ensembl id may have its version, an Entrez id that was read as a float a .0
                said = np.array([without_version(gene) for gene in said], dtype=object)
            none = np.isin(said, [*MISSING, "0"] if column == "entrez_id" else MISSING)
            var[column] = np.where(none, var[column], said)
        elif column in options.gene_columns:
            raise ValueError(f"no column {yours!r} for {column} in the gene table of {path}: {list(known)[:12]}.")
    if length := options.gene_columns.get("length"):
        if length not in known:
            raise ValueError(f"no column {length!r} for length in the gene table of {path}: {list(known)[:12]}.")
        var["length"] = pd.to_numeric(known[length], errors="coerce").to_numpy(dtype=float)
    return kept, var
