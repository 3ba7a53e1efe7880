"""ARCHS4: read counts of a million public samples of GEO in one HDF5 file, of human or of mouse.

Lachmann et al. (2018), doi:10.1038/s41467-018-03751-6; files ``human_gene_v2.*.h5`` and ``mouse_gene_v2.*.h5`` from
https://archs4.org. kallisto's counts by gene, from thousands of laboratories: a table has to name the classes, or words
in what the submitters wrote.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from transcriptome_diffusion.cohorts.annotations import read_annotations
from transcriptome_diffusion.cohorts.options import ARCHS4Options
from transcriptome_diffusion.cohorts.progress import Progress
from transcriptome_diffusion.expression.identifiers import identify, without_version
from transcriptome_diffusion.expression.landmarks import load_panel
from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.expression.units import COUNTS
from transcriptome_diffusion.memory import require_memory

logger = logging.getLogger(__name__)

EXPRESSION = "data/expression"
#: the names that releases 2.0 to 2.6 have for a column
ACCESSIONS = ("geo_accession",)
ENSEMBL = ("ensembl_gene", "ensembl_id", "ensembl_gene_id")
SYMBOLS = ("symbol", "gene_symbol")
SINGLE_CELL = "singlecellprobability"
#: what of the file's sample table is kept
KEPT = ("title", "source_name_ch1", "characteristics_ch1")
#: values of the matrix that are in memory at once, beside the profiles that are kept
BLOCK_VALUES = 20_000_000
PUBLISHED_AT = "https://archs4.org (human_gene_v2.latest.h5)"


def read_archs4(path: Path, options: ARCHS4Options) -> ad.AnnData:
    """Read the chosen samples of one file; the matrix is streamed, block after block of samples.

    Samples without a class, of two classes, or that are probably single cells are left out and counted in the log.

    Returns:
        (n_samples, n_genes): read counts with ``genes: all``; linear CPM, by the library of all genes, with
        ``genes: landmarks``. ``obs``: ``tissue``; ``donor``, which is the series, since donors are not known (series
        that share a sample have one name); ``study``, which is ``ARCHS4``; ``library_size``; title, source and
        characteristics as submitted; and what else the table of classes has.

    Raises:
        FileNotFoundError: if the file, or the table of classes, is missing.
        ValueError: if the file has another layout, classes are given neither by a table nor by words, or no sample is
            left.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"the ARCHS4 file {path} does not exist; set it in the catalog's cohort. Files are at {PUBLISHED_AT}."
        )
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path} is no HDF5 file; expected one of {PUBLISHED_AT}.")
    with h5py.File(path) as file:
        obs = _samples(file, path, options)
        genes, var = _genes(file, path, options)
        places = obs.pop("place").to_numpy()
        values, libraries = _read_values(file[EXPRESSION], places, genes, path)
    obs["library_size"] = libraries
    if (empty := obs.index[libraries == 0]).size:
        raise ValueError(
            f"{len(empty)} of the chosen samples of {path} have no read: {', '.join(empty[:5])}. Leave them out of the "
            "table of classes."
        )
    unit = COUNTS
    if options.genes == "landmarks":
        values *= (1e6 / libraries).astype(np.float32)[:, None]
        unit = "CPM"
    logger.info(
        "Read %d samples of %d series and %d genes: %s",
        len(obs),
        obs["donor"].nunique(),
        len(var),
        ", ".join(f"{name} {count}" for name, count in obs["tissue"].value_counts().items()),
    )
    return make_profiles(values, obs, var, unit)


def _column(file: h5py.File, table: str, names: Sequence[str], path: Path) -> np.ndarray:
    """A column of ``meta/samples`` or ``meta/genes`` as text, under whichever of its names it has."""
    group = file.get(f"meta/{table}")
    found = next((name for name in names if group is not None and name in group), None)
    if group is None or found is None:
        there = sorted(group) if group is not None else sorted(file)
        raise ValueError(
            f"{path} has no column {' or '.join(names)} in meta/{table}, found {there}. Expected the layout of ARCHS4 "
            f"version 2, as at {PUBLISHED_AT}; version 1 is another."
        )
    return np.char.strip(group[found].asstr(errors="replace")[:].astype(str))


def _samples(file: h5py.File, path: Path, options: ARCHS4Options) -> pd.DataFrame:
    """The chosen samples in the order of the file, and the ``place`` of each."""
    accessions = _column(file, "samples", ACCESSIONS, path)
    matrix = file.get(EXPRESSION)
    if matrix is None or matrix.ndim != 2 or matrix.shape[1] != len(accessions):
        shape = "none" if matrix is None else matrix.shape
        raise ValueError(
            f"{path} has {len(accessions)} samples and a matrix {EXPRESSION} of {shape}; expected genes x samples."
        )
    columns = file["meta/samples"]
    text = {name: _column(file, "samples", (name,), path) for name in {*KEPT, *options.fields} if name in columns}
    if options.classes is None:
        if absent := [name for name in options.fields if name not in text]:
            raise ValueError(f"{path} has no column {absent} in meta/samples, found {sorted(columns)}; mend `fields`.")
        classes = classes_by_words([text[name] for name in options.fields], options.words)
        table = pd.DataFrame({"tissue": classes}, index=accessions)
    else:
        table = _read_classes(path.parent / options.classes).reindex(accessions)
    series = group_series(_column(file, "samples", ("series_id",), path))
    obs = table.assign(
        donor=series,
        study="ARCHS4",
        **{name: text[name] for name in KEPT if name in text},
        place=np.arange(len(accessions)),
    )
    obs.index = pd.Index(accessions, name="sample")
    kept = obs["tissue"].notna().to_numpy()
    chosen = int(kept.sum())
    single = np.zeros(len(obs), dtype=bool)
    if SINGLE_CELL in columns:
        single = np.nan_to_num(columns[SINGLE_CELL][:].astype(float)) > options.single_cell
    logger.info(
        "%s: %d samples, of which %d have a class, and %d of these are left out as single cells",
        *(path.name, len(obs), chosen, int((kept & single).sum())),
    )
    obs = obs[kept & ~single]
    if options.most_per_class is not None:
        obs = obs.sample(frac=1, random_state=options.seed).groupby("tissue").head(options.most_per_class)
        obs = obs.sort_values("place")
    if obs.empty:
        raise ValueError(
            f"no sample of {path} is left: {chosen} of {len(kept)} have a class, {int(single.sum())} of all are "
            "probably single cells. Mend `classes` or `words` of the cohort's options."
        )
    if obs.index.has_duplicates:
        raise ValueError(f"{path} has the sample {obs.index[obs.index.duplicated()][0]} twice.")
    return obs.astype({"tissue": str})


def classes_by_words(fields: Sequence[np.ndarray], words: Mapping[str, Sequence[str]]) -> np.ndarray:
    """The class of each sample whose text has a word of that class and of no other, else NaN.

    Words are matched whole, in either case, in any of the fields.

    Args:
        fields: arrays of text, (n,) each. words: by class, the words that name it.
    """
    text = pd.Series(fields[0].astype(object))
    for field in fields[1:]:
        text = text + "\n" + field.astype(object)
    found = pd.DataFrame(
        {
            name: text.str.contains(rf"(?<!\w)(?:{'|'.join(map(re.escape, own))})(?!\w)", case=False, regex=True)
            for name, own in words.items()
        }
    )
    unique = found.sum(axis=1) == 1
    if both := int((found.sum(axis=1) > 1).sum()):
        logger.info("%d samples have words of two classes and are left out", both)
    return found.idxmax(axis=1).where(unique).to_numpy(dtype=object)


def _read_classes(path: Path) -> pd.DataFrame:
    """The user's table, by sample; a sample without a class is left out."""
    table = read_annotations(
        path, ["sample", "tissue"], separator=None, quoted=True, mend="Mend `classes` of the cohort's options."
    )
    table = table[table["tissue"] != ""]
    if (repeated := table["sample"].duplicated()).any():
        raise ValueError(f"{path} has the sample {table['sample'][repeated].iloc[0]} twice; leave one.")
    return table.set_index("sample")


def group_series(series: np.ndarray) -> np.ndarray:
    """One name for all series that share a sample, so that no profile of a series is on two sides of a split.

    Args:
        series: of each sample, (n,), such as ``GSE1`` or ``GSE1,GSE2``.
    """
    lists = [re.findall(r"\w+", text) or [f"unknown {i}"] for i, text in enumerate(series)]
    names = sorted({name for names in lists for name in names})
    place = {name: i for i, name in enumerate(names)}
    pairs = [(place[names[0]], place[other]) for names in lists for other in names[1:]]
    rows, columns = np.array(pairs, dtype=int).reshape(-1, 2).T
    links = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(names), len(names)))
    _, group = connected_components(links, directed=False)
    # the first name in the alphabet stands for the group
    first = np.full(group.max() + 1, -1)
    for i in reversed(range(len(names))):
        first[group[i]] = i
    return np.array([names[first[group[place[names_[0]]]]] for names_ in lists], dtype=object)


def _genes(file: h5py.File, path: Path, options: ARCHS4Options) -> tuple[np.ndarray, pd.DataFrame]:
    """Rows of the matrix that are read, and the gene table."""
    ensembl = np.array([without_version(gene) for gene in _column(file, "genes", ENSEMBL, path)], dtype=object)
    symbols = _column(file, "genes", SYMBOLS, path)
    if len(ensembl) != file[EXPRESSION].shape[0]:
        raise ValueError(
            f"{path} has {len(ensembl)} genes and a matrix of {file[EXPRESSION].shape}; expected genes x samples."
        )
    rows = np.arange(len(ensembl))
    if options.genes == "landmarks":
        panel = load_panel()
        wanted = np.isin(ensembl, panel["ensembl_id"].to_numpy()) | np.isin(symbols, panel["symbol"].to_numpy())
        rows = rows[wanted]
        if not len(rows):
            raise ValueError(
                f"{path} has none of the landmark genes; its first genes are {list(ensembl[:3])}. Of mouse genes, set "
                "`genes: all`, and name a panel of mouse genes as `landmark_genes` in the catalog."
            )
    if not ensembl[rows[0]].startswith("ENSG"):  # of mouse, where symbols are the usual names
        kept, var = identify(list(symbols[rows]), kind="symbol", where=path.name)
        return rows[kept], var
    kept, var = identify(list(ensembl[rows]), kind="ensembl", where=path.name)
    rows = rows[kept]
    return rows, var.assign(symbol=symbols[rows])


def _read_values(
    matrix: h5py.Dataset, places: np.ndarray, genes: np.ndarray, path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Values (n_samples, n_genes) float32 of the chosen samples and genes, and the sums of all genes, (n_samples,)."""
    all_genes = matrix.shape[0]
    block = max(BLOCK_VALUES // all_genes, 1)
    require_memory(
        f"reading {len(places)} samples of {len(genes)} genes from {path.name}",
        4 * len(places) * len(genes) + 3 * BLOCK_VALUES * matrix.dtype.itemsize,
        "Set `genes: landmarks`, or `most_per_class`, in the options of the cohort.",
    )
    values = np.empty((len(places), len(genes)), dtype=np.float32)
    libraries = np.empty(len(places))
    with Progress(path.name, matrix.nbytes, "read") as progress:
        for rows, start, stop in _blocks(places, block, matrix.chunks):
            part = matrix[:, start:stop][:, places[rows] - start]
            libraries[rows] = part.sum(axis=0, dtype=np.float64)
            values[rows] = part[genes].T
            progress(stop * (matrix.nbytes // matrix.shape[1]))
    return values, libraries


def _blocks(places: np.ndarray, block: int, chunks: tuple[int, ...] | None) -> Iterator[tuple[slice, int, int]]:
    """Runs of chosen samples that lie within ``block`` columns, which begin and end with a chunk of the file."""
    width = chunks[1] if chunks else 1
    block = max(block // width, 1) * width
    at = 0
    while at < len(places):
        start = places[at] // width * width
        until = int(np.searchsorted(places, start + block))
        yield slice(at, until), start, int(places[until - 1]) + 1
        at = until
