"""A cohort of one's own: one matrix, one sample table, if need be one gene table; columns and unit are named in YAML.

The matrix is text (TSV, CSV; plain or gzipped), GCT 1.2, Parquet or ``.h5ad``, with genes in rows or in columns; or a
folder with one file of a quantification program per sample (``cohorts.quantifications``).
"""

from __future__ import annotations

import csv
import logging
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import polars as pl

from transcriptome_diffusion.cohorts.annotations import read_annotations, sniff_separator
from transcriptome_diffusion.cohorts.options import OwnOptions
from transcriptome_diffusion.cohorts.quantifications import read_quantifications
from transcriptome_diffusion.cohorts.tables import MISSING, Matrix, read_gct, read_matrix, text_blocks, text_lines
from transcriptome_diffusion.expression.identifiers import combine_repeats, identify, without_version
from transcriptome_diffusion.expression.labels import as_text
from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.expression.units import (
    COUNTS,
    detect_unit,
    linear_name,
    parse_log,
    settle_negative,
    undo_log,
)

logger = logging.getLogger(__name__)

#: columns of the sample table that are read under these names unless others are named
KNOWN_COLUMNS = ("tissue", "donor", "study", "sample_type")
GENE_COLUMNS = ("symbol", "entrez_id", "ensembl_id")

#: what columns beside the values are, by their names without capitals, blanks and punctuation
_ROLES = {
    **dict.fromkeys(("symbol", "genesymbol", "hugosymbol", "genename", "hgncsymbol", "externalgenename"), "symbol"),
    **dict.fromkeys(("description", "name", "genenames", "symbols"), "symbol"),
    **dict.fromkeys(("entrez", "entrezid", "entrezgeneid", "entrezgene", "ncbi", "ncbigeneid"), "entrez_id"),
    **dict.fromkeys(("ensembl", "ensemblid", "ensemblgeneid", "ensg"), "ensembl_id"),
    **dict.fromkeys(("length", "genelength", "width", "bp", "exoniclength"), "length"),
    **dict.fromkeys(("chr", "chrom", "chromosome", "seqnames", "start", "end", "strand", "biotype"), "other"),
    **dict.fromkeys(("genebiotype", "genetype", "type", "class", "transcriptids", "locus"), "other"),
}
_GEO_BEGIN = "!series_matrix_table_begin"
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
        (n_samples, n_genes), linear unless the scale is transformed, NaN where a cell is empty. ``obs``: ``donor``,
        ``study`` (``own`` unless a column is named) and every further named column, the class label among them.

    Raises:
        FileNotFoundError: if the matrix or a table is missing.
        ValueError: if a file is broken, tables and matrix do not belong together, identifiers are mixed, a sample
            repeats, or the unit contradicts the values.
    """
    if not path.exists():
        raise FileNotFoundError(f"the matrix {path} does not exist; set `filepath` of the cohort in the catalog.")
    table = None if options.samples is None else _read_samples(_beside(path, options.samples), options)
    matrix = _read_folder(path, options, table) if path.is_dir() else _read_matrix(path, options, table)
    obs = _sample_table(path, matrix, table, options)
    kept, var = _gene_table(path, matrix, options)
    rows = pd.Index(matrix.samples).get_indexer(obs.index)
    values = matrix.values
    if len(rows) < len(values) or len(kept) < len(matrix.genes):
        values = values[np.ix_(rows, kept)]
    transformed = options.scale == "transformed"
    unit = options.unit or matrix.unit or detect_unit(values)
    linear = unit if transformed else undo_log(values, unit, options.negative)
    how = "mean" if transformed and options.repeated_genes == "sum" else options.repeated_genes
    values, var = combine_repeats(values, var, how, path.name)
    logger.info(
        "Read %d samples of %d donors, %d genes, in %s from %s",
        len(obs),
        obs["donor"].nunique(),
        len(var),
        unit,
        path,
    )
    cohort = settle_negative(make_profiles(values, obs, var, linear, missing=True), options.negative)
    cohort.uns["declared_unit"], cohort.uns["scale"] = unit, options.scale
    return cohort


def _beside(path: Path, name: str) -> Path:
    """A table named in the options: beside the matrix, or, of a folder, in it."""
    beside, inside = path.parent / Path(name).expanduser(), path / Path(name).expanduser()
    return inside if path.is_dir() and inside.is_file() else beside


def _read_folder(path: Path, options: OwnOptions, table: pd.DataFrame | None) -> _Matrix:
    """A folder with one file per sample."""
    if table is None:
        raise ValueError(f"{path} is a folder: set `samples` of the cohort to a table of its samples.")
    if (unit := linear_name(options.unit or "")) not in (COUNTS, "TPM"):
        raise ValueError(f"{path} is a folder, of whose files `unit: counts` or `unit: TPM` can be read, not {unit!r}.")
    column = options.columns.get("file", "file")
    if column not in table and "file" in options.columns:
        raise ValueError(f"the sample table of {path} has no column {column!r} for file; it has {list(table)[:12]}.")
    samples, genes, values = read_quantifications(
        path,
        list(table.index),
        dict(zip(table.index, table[column], strict=True)) if column in table else None,
        quantity="counts" if unit == COUNTS else "TPM",
        tx2gene=None if options.tx2gene is None else _beside(path, options.tx2gene),
        strand=options.strand,
    )
    return _Matrix(samples, genes, values)


def _read_matrix(path: Path, options: OwnOptions, table: pd.DataFrame | None) -> _Matrix:
    found = _KIND.search(path.name)
    kind = found[1].lower() if found else "text"
    if kind == "h5ad":
        return _read_h5ad(path, options)
    if table is None:
        raise ValueError(f"{path} brings no sample table; set `samples` in the options of the cohort in the catalog.")
    if kind == "parquet":
        across, down, about, values = _read_parquet(path)
    else:
        # the columns may be genes, so that they may repeat
        if kind == "gct":
            text = read_gct(path, True, missing="nan", on_repeated_samples="keep", decimal=options.decimal)
        else:
            text = _read_text(path, kind, options)
        across, down, values = text.samples, text.genes, text.values
        about = dict(zip(text.id_columns[1:], text.extra, strict=False))
        if about and _are_row_numbers(down):  # pandas writes its index
            down = about.pop(text.id_columns[1])
        if not text.id_columns and across[0] not in table.index and table.index.isin(across).any():
            raise ValueError(
                f"{path}: the header has a cell less than the rows, as R writes it, yet begins with {across[0]!r}, "
                "which is no sample of the sample table. Complete the header."
            )
    across, down = ([name.strip() for name in names] for names in (across, down))
    if not table.index.isin([*across, *down]).any():
        across = _names_within(path, across, table.index)
    if options.genes_in == "columns" or (options.genes_in is None and _samples_go_down(path, across, down, table)):
        return _Matrix(down, across, np.ascontiguousarray(values.T))
    lengths = [place for place, name in enumerate(across) if role_of(name) == "length" and name not in table.index]
    for place in lengths:
        about[across[place]] = list(values[place])
    if lengths:
        kept = np.setdiff1d(np.arange(len(across)), lengths)
        across, values = [across[place] for place in kept], values[kept]
    return _Matrix(across, down, values, var=_about_genes(path, about))


def _read_text(path: Path, kind: str, options: OwnOptions) -> Matrix:
    """A matrix of text, whose separator and id columns are found out from its first lines."""
    first = [line.block[line.start : line.stop] for line in islice(text_lines(text_blocks(path)), 500)]
    lines = [line.decode("utf-8", errors="replace").removeprefix("\ufeff") for line in first]
    if lines and "\r" in lines[0]:
        raise ValueError(f"{path} has the line ends of an old Macintosh; save it with those of Unix or Windows.")
    # a series matrix of GEO begins with its metadata
    comments = next((place + 1 for place, line in enumerate(lines) if line.startswith(_GEO_BEGIN)), 0)
    series = comments > 0
    while lines[comments + 1 :] and lines[comments].startswith("#"):
        cells, below = (len(re.split(r"[\t,;]", line)) for line in lines[comments : comments + 2])
        if cells == below > 1:
            break  # a header that begins so
        comments += 1
    lines = lines[: comments + 30]
    separator = options.separator or sniff_separator(lines[comments:], "," if kind == "csv" else "\t")
    rows = [cells for cells in csv.reader(lines[comments:], delimiter=separator) if cells]
    return read_matrix(
        path,
        separator=separator,
        skip_lines=comments,
        end="!" if series else None,
        id_columns=options.id_columns or (_count_ids(rows) if rows else 1),
        decimal=options.decimal,
        missing="nan",
        on_repeated_samples="keep",
    )


def _count_ids(rows: list[list[str]]) -> int:
    """How many leading columns say what a row is: those with a name for that, and those of text."""
    header, *body = rows
    if not body or len(body[0]) != len(header):  # R's header, one cell short, has one column of ids
        return 1
    count = 1
    while count < len(header) - 1:
        cells = [cells[count] for cells in body if len(cells) > count]
        words = sum(re.search("[A-Za-z]{2}", cell) is not None and cell not in MISSING for cell in cells)
        if role_of(header[count]) is None and words <= len(cells) / 2:
            break
        count += 1
    return count


def role_of(header: str) -> str | None:
    """What a column beside the values is by its name: ``symbol``, ``entrez_id``, ``ensembl_id``, ``length``, ``other``.

    None if the name tells nothing.
    """
    return _ROLES.get(re.sub(r"[\W_]", "", header).lower())


def _are_row_numbers(ids: list[str]) -> bool:
    """Whether these count from 0 or 1."""
    return len(ids) > 1 and ids[0] in "01" and ids == [str(int(ids[0]) + place) for place in range(len(ids))]


def _names_within(path: Path, names: list[str], samples: pd.Index) -> list[str]:
    """Names of a matrix, as the samples that they hold: ``../S1/S1.sorted.bam``, ``S1_TPM``; else as they are.

    A sample counts where it stands between signs that are neither letters nor digits.

    Raises:
        ValueError: if several names hold the same sample, as where counts and TPM stand side by side.
    """
    words = {sample: tuple(re.findall(r"[^\W_]+", sample)) for sample in samples}
    by_words = {parts: sample for sample, parts in words.items() if parts}
    lengths = sorted({len(parts) for parts in by_words}, reverse=True)
    found: dict[str, str] = {}
    for name in names:
        parts = re.findall(r"[^\W_]+", name)
        runs = (tuple(parts[start : start + n]) for n in lengths for start in range(len(parts) - n + 1))
        held = {by_words[run] for run in runs if run in by_words and by_words[run] in name}
        if len(held) == 1:
            found[name] = held.pop()
    if not found:
        return names
    name, sample = next(iter(found.items()))
    if twice := [other for other, held in found.items() if held == sample and other != name]:
        raise ValueError(
            f"several columns of {path} hold the sample {sample!r}: {name!r}, {twice[0]!r}. If they are of different "
            "quantities, such as counts and TPM, keep those of one and name the columns as the sample table does."
        )
    logger.warning("%d columns of %s are named by the samples in their names, %r by %r", len(found), path, name, sample)
    return [found.get(name, name) for name in names]


def _about_genes(path: Path, columns: dict[str, list[str]]) -> pd.DataFrame | None:
    """What the id columns after the first say, by role.

    A column that repeats one word for all genes, such as ``protein_coding``, holds no symbols.
    """
    known: dict[str, list[str]] = {}
    ignored = []
    for name, cells in columns.items():
        role = role_of(name) or ("symbol" if len(set(cells)) > max(1, len(cells) / 10) else "other")
        if role == "symbol" and len(cells) > 2 and len(set(cells)) <= max(1, len(cells) / 100):
            role = "other"
        if role == "other" or role in known:
            ignored.append(f"{name!r} ({cells[0]}, ...)")
        else:
            known[role] = cells
    if ignored:
        logger.warning("Columns of %s that name no gene are ignored: %s", path.name, ", ".join(ignored))
    return pd.DataFrame(known) if known else None


def _samples_go_down(path: Path, across: list[str], down: list[str], table: pd.DataFrame) -> bool:
    """Whether the sample table's ids are the file's rows and not its columns."""
    found_across, found_down = (table.index.isin(names).sum() for names in (across, down))
    if found_across == found_down == 0:
        raise _no_shared_sample(path, [*across[:2], *down[:2]], table)
    return bool(found_down > found_across)


def make_name(name: str) -> str:
    """A name as R's ``make.names`` writes it in the header of a matrix."""
    name = re.sub(r"[^\w.]", ".", name)
    return name if re.match(r"[A-Za-z]|\.(?!\d)", name) else f"X{name}"


def _no_shared_sample(path: Path, names: list[str], table: pd.DataFrame) -> ValueError:
    """Matrix and sample table have no sample in common."""
    by_r = {make_name(name): name for name in table.index}
    spelling = {re.sub(r"\W|_", "", name).lower(): name for name in table.index}
    if renamed := [name for name in names if name in by_r]:
        hint = (
            f" {renamed[0]!r} is what R makes of {by_r[renamed[0]]!r}: it turns dashes into dots and puts an X before "
            "a digit. Write the matrix with check.names = FALSE, or the sample table's ids in the same way."
        )
    elif alike := [name for name in names if re.sub(r"\W|_", "", name).lower() in spelling]:
        other = spelling[re.sub(r"\W|_", "", alike[0]).lower()]
        hint = f" {alike[0]!r} differs from {other!r} only in its punctuation or capitals."
    else:
        hint = " Is `columns: {sample: ...}` the column with the names that the matrix uses?"
    return ValueError(
        f"the sample table matches no sample of {path}: it begins with {list(table.index[:2])}, the matrix names "
        f"{names}.{hint}"
    )


def _read_parquet(path: Path) -> tuple[list[str], list[str], dict[str, list[str]], np.ndarray]:
    """Names of the value columns, the first column of text, the other by its name, and values (columns, rows)."""
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
    about = dict(zip(texts[1:], names[1:], strict=True))
    return values.columns, names[0], about, values.cast(pl.Float32).to_numpy().T


def _read_h5ad(path: Path, options: OwnOptions) -> _Matrix:
    try:
        cohort = ad.read_h5ad(path)
    except (OSError, KeyError) as error:
        raise ValueError(f"{path} is not a sound .h5ad file: {error}") from error
    if options.genes_in == "rows":
        raise ValueError(f"{path} is an h5ad, which has samples in rows and genes in columns; remove `genes_in`.")
    if options.layer is not None and options.layer not in cohort.layers:
        there = [name for name in cohort.layers if name is not None]  # anndata 0.13 counts X among them
        raise ValueError(f"{path} has no layer {options.layer!r}, only {there}.")
    values = cohort.X if options.layer is None else cohort.layers[options.layer]
    if cohort.raw is not None:
        logger.warning(
            "%s has %d genes in raw and %d in X, and raw is not read: X is often scaled, or cut to variable genes. To "
            "read raw, write the file that adata.raw.to_adata() gives",
            path,
            cohort.raw.n_vars,
            cohort.n_vars,
        )
    if values is None:
        raise ValueError(
            f"{path} has no values in X, only the layers {list(cohort.layers)}. Move one of them to X, or set `layer`."
        )
    logged = cohort.uns.get("log1p") if options.layer is None else None
    if logged is not None:
        base = {"2": "log2", "10": "log10"}.get(f"{dict(logged).get('base', '')}".removesuffix(".0"), "ln")
        stated = options.unit or str(cohort.uns.get("unit", ""))
        if (declared := parse_log(stated)) is None or (declared.base, declared.offset) != (base, 1):
            raise ValueError(
                f"{path} says in uns['log1p'] that X is {base}(x + 1), and the declared unit is {stated or 'none'}. "
                f"Declare `unit: {base}(TPM + 1)`, with your linear unit, or name a `layer` of other values."
            )
    samples = cohort.obs_names
    if (named := options.columns.get("sample")) is not None and options.samples is None:
        if named not in cohort.obs:
            raise ValueError(
                f"{path} has no column {named!r} in obs for the sample; its columns are {list(cohort.obs)}."
            )
        samples = pd.Index(cohort.obs[named].astype(str))
    cohort.obs.index = samples
    return _Matrix(
        list(samples),
        list(cohort.var_names),
        np.array(values.toarray() if hasattr(values, "toarray") else values, dtype=np.float32, order="C"),
        cohort.obs,
        cohort.var,
        cohort.uns.get("unit"),
    )


def _read_table(path: Path, options: OwnOptions, needed: list[str], what: str) -> pd.DataFrame:
    table = read_annotations(
        path,
        needed,
        separator=None,
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
    columns |= {ours: yours for ours, yours in options.columns.items() if ours not in ("sample", "file")}
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
    if absent := len(table.index.unique()) - len(shared):
        logger.info("%d samples of the sample table are not in the matrix", absent)
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
    kept, var = identify(matrix.genes, kind=options.gene_ids, where=str(path), repeats="keep")
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
    if (length := options.gene_columns.get("length", "length")) in known:
        var["length"] = pd.to_numeric(known[length], errors="coerce").to_numpy(dtype=float)
    elif "length" in options.gene_columns:
        raise ValueError(f"no column {length!r} for length in the gene table of {path}: {list(known)[:12]}.")
    return kept, var
