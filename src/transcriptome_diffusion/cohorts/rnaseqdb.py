"""RNAseqDB: TCGA and GTEx, quantile-normalised, ComBat-corrected FPKM, one file per cohort and kind of sample.

Wang et al. (2018), doi:10.1038/sdata.2018.61; files from https://github.com/mskcc/RNAseqDB (folder ``data``) or
figshare, doi:10.6084/m9.figshare.5330593. Values are linear and reach 1e8 and more, since ComBat was undone
from logarithms.
"""

from __future__ import annotations

import gzip
import logging
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import polars as pl

from transcriptome_diffusion.cohorts import barcodes
from transcriptome_diffusion.cohorts.options import RNAseqDBOptions
from transcriptome_diffusion.expression.profiles import make_profiles

logger = logging.getLogger(__name__)

ID_COLUMNS = ("Hugo_Symbol", "Entrez_Gene_Id")
FILE_PATTERN = "<cohort>-rsem-fpkm-<gtex|tcga|tcga-t>.txt.gz"
PUBLISHED_AT = "https://github.com/mskcc/RNAseqDB (folder data/normalized)"
LARGEST = float(np.finfo(np.float32).max)

_FILE_NAME = re.compile(r"(?P<cohort>.+)-rsem-fpkm-(?P<kind>gtex|tcga|tcga-t)\.txt\.gz")


@dataclass(frozen=True, eq=False)
class _Matrix:
    """One file: ``values`` is (n_genes, n_samples) float32, ``entrez`` maps the symbols, in order, to Entrez ids."""

    path: Path
    obs: pd.DataFrame
    entrez: pd.Series
    values: np.ndarray


def read_rnaseqdb(folder: Path, options: RNAseqDBOptions) -> ad.AnnData:
    """Read every file of a folder named ``<cohort>-rsem-fpkm-<gtex|tcga|tcga-t>.txt.gz``; others are left alone.

    Gene lists differ between files: the genes are those of all files, by symbol, in the order of the first
    file. A symbol that repeats within a file, or whose Entrez id differs between files, is ambiguous: it is
    dropped and named in a warning. Entrez id 0 means that there is none and becomes "".

    Returns:
        (n_samples, n_genes), linear FPKM. ``obs``: ``donor`` (TCGA: the patient, first 12 characters of the
        barcode; GTEx: the first two fields), ``study`` (``TCGA`` or ``GTEX``), ``sample_type`` and ``source``,
        the cohort in the file's name.

    Raises:
        FileNotFoundError: if the folder is missing or holds no such file.
        ValueError: if a file is broken, a value is not a non-negative number, or a sample comes twice.
    """
    matrices = [_read_matrix(path, kind, cohort) for path, cohort, kind in _find_files(Path(folder), options)]
    _refuse_repeated_samples(matrices)
    shared = _shared_genes(matrices)
    values = np.concatenate([m.values[m.entrez.index.get_indexer(shared.index)].T for m in matrices])
    obs = pd.concat([m.obs for m in matrices])
    var = pd.DataFrame(
        {"symbol": shared.index, "entrez_id": shared.to_numpy(), "ensembl_id": "", "is_landmark": False},
        index=pd.Index(shared.index, name="gene"),
    )
    logger.info(
        "Read %d samples of %d donors and %d shared genes (%d to %d per file) from %d files in %s",
        len(obs),
        obs["donor"].nunique(),
        len(var),
        min(len(m.entrez) for m in matrices),
        max(len(m.entrez) for m in matrices),
        len(matrices),
        folder,
    )
    return make_profiles(values, obs, var, unit="FPKM")


def _find_files(folder: Path, options: RNAseqDBOptions) -> list[tuple[Path, str, str]]:
    """(path, cohort, kind) of every file to read, sorted by name."""
    where = f"Files named {FILE_PATTERN} are published at {PUBLISHED_AT}; set the folder in the catalog's cohort."
    if not folder.is_dir():
        raise FileNotFoundError(f"the RNAseqDB folder {folder} does not exist. {where}")
    files, others = [], []
    for path in sorted(folder.iterdir()):
        if match := _FILE_NAME.fullmatch(path.name):
            if match["kind"] in options.kinds:
                files.append((path, match["cohort"], match["kind"]))
        elif not path.name.startswith("."):
            others.append(path.name)
    if not files:
        found = f"only {others[:3]}" if others else "nothing"
        raise FileNotFoundError(f"no RNAseqDB file of the kinds {options.kinds} in {folder}, {found} else. {where}")
    if others:
        logger.warning("Left alone in %s, not named %s: %s", folder, FILE_PATTERN, ", ".join(others))
    return files


def _read_matrix(path: Path, kind: str, cohort: str) -> _Matrix:
    text = _decompress(path)
    samples = _read_header(path, text)
    study = "GTEX" if kind == "gtex" else "TCGA"
    obs = pd.DataFrame(
        {
            "donor": [_donor(path, sample, study) for sample in samples],
            "study": study,
            "sample_type": "tumor" if kind == "tcga-t" else "normal",
            "source": cohort,
        },
        index=pd.Index(samples, name="sample"),
    )
    columns = [f"sample {i}" for i in range(len(samples))]
    schema = {**dict.fromkeys(ID_COLUMNS, pl.String), **dict.fromkeys(columns, pl.Float32)}
    try:
        table = pl.read_csv(text, separator="\t", has_header=False, skip_rows=1, quote_char=None, schema=schema)
    except pl.exceptions.PolarsError as error:
        raise _fault(path, text, samples) from error
    values = table.select(columns).to_numpy(order="c")
    empty_cells = table.null_count().sum_horizontal().sum()
    if table.is_empty() or empty_cells or not (np.isfinite(values) & (values >= 0)).all():
        raise _fault(path, text, samples)
    entrez = pd.Series(table[ID_COLUMNS[1]].to_list(), index=table[ID_COLUMNS[0]].to_list(), dtype=object)
    logger.debug("%s: %d samples, %d genes, largest value %g", path.name, len(samples), len(entrez), values.max())
    repeated = entrez.index.duplicated(keep=False)
    if repeated.any():
        names = sorted(set(entrez.index[repeated]))
        logger.warning("Dropped %d symbols that repeat in %s: %s", len(names), path.name, ", ".join(names[:20]))
    return _Matrix(path, obs, entrez[~repeated].replace("0", ""), values[~repeated])


def _decompress(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            text = file.read()
    except EOFError as error:
        raise ValueError(f"{path} is truncated: the gzip stream ends too early. Fetch the file again.") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a sound gzip file ({error}). Fetch the file again.") from error
    if not text.strip():
        raise ValueError(f"{path} is empty. Fetch the file again.")
    return text


def _read_header(path: Path, text: bytes) -> list[str]:
    """The sample ids of a file."""
    header = text.partition(b"\n")[0].decode("utf-8", errors="replace").rstrip("\r").split("\t")
    if tuple(header[:2]) != ID_COLUMNS:
        raise ValueError(
            f"{path} lacks the id columns: expected its header to begin with {list(ID_COLUMNS)}, found {header[:2]}."
        )
    if len(header) == 2:
        raise ValueError(f"{path} has the id columns but no sample.")
    return header[2:]


def _donor(path: Path, sample: str, study: str) -> str:
    donor = barcodes.donor(sample)
    if donor is None or not donor.startswith(f"{study}-") or not sample.startswith(f"{donor}-"):
        raise ValueError(f"{path}: the sample {sample!r} is not a {study} barcode, from which its donor is read.")
    return donor


def _fault(path: Path, text: bytes, samples: list[str]) -> ValueError:
    """The first fault of a file that could not be parsed, found line by line, with its gene and sample."""
    lines = text.decode("utf-8", errors="replace").removesuffix("\n").split("\n")
    if len(lines) == 1:
        return ValueError(f"{path} has a header but no gene.")
    for number, line in enumerate(lines[1:], start=2):
        cells = line.removesuffix("\r").split("\t")
        if len(cells) != len(samples) + 2:
            return ValueError(
                f"{path}, line {number}: {len(cells)} cells, but the header has {len(samples) + 2}. "
                "The file may have been cut off or edited; fetch it again."
            )
        symbol, entrez, *values = cells
        if not symbol or not entrez:
            return ValueError(f"{path}, line {number}: a gene without {ID_COLUMNS[bool(symbol)]}.")
        for sample, cell in zip(samples, values, strict=True):
            try:
                sound = 0 <= float(cell) <= LARGEST and cell == cell.strip()
            except ValueError:
                sound = False
            if not sound:
                return ValueError(
                    f"{path}, line {number}: expected a finite number of at least 0 for gene {symbol}, "
                    f"sample {sample}, found {cell!r}. Fetch the file again."
                )
    return ValueError(f"{path} is not a tab-separated table in UTF-8.")


def _refuse_repeated_samples(matrices: list[_Matrix]) -> None:
    origin = pd.Series(
        [m.path.name for m in matrices for _ in range(len(m.obs))],
        index=np.concatenate([m.obs.index for m in matrices]),
    )
    repeated = origin[origin.index.duplicated(keep=False)]
    if len(repeated):
        sample = repeated.index[0]
        raise ValueError(
            f"the sample {sample!r} comes {len(repeated[sample])} times, in {sorted(set(repeated[sample]))} "
            f"({repeated.index.nunique()} repeated samples in all). Remove the copies."
        )


def _shared_genes(matrices: list[_Matrix]) -> pd.Series:
    """Entrez ids by symbol of the genes in every file, in the order of the first."""
    entrez = pd.concat([m.entrez for m in matrices], axis=1, join="inner")
    if entrez.empty:
        raise ValueError(
            f"the {len(matrices)} files share no gene; {matrices[0].path.name} begins with "
            f"{list(matrices[0].entrez.index[:3])}. Do all files come from the same release?"
        )
    first = entrez.iloc[:, 0]
    agree = entrez.eq(first, axis=0).all(axis=1)
    if not agree.all():
        logger.warning(
            "Dropped %d symbols whose Entrez id differs between files: %s",
            (~agree).sum(),
            ", ".join(first.index[~agree][:20]),
        )
    return first[agree]
