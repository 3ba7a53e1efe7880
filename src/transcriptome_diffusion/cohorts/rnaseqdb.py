"""RNAseqDB: TCGA and GTEx, one file per cohort and kind of sample: FPKM without batch effects, or expected counts.

Wang et al. (2018), doi:10.1038/sdata.2018.61; files from https://github.com/mskcc/RNAseqDB (folder ``data``) or
figshare, doi:10.6084/m9.figshare.5330593. The FPKM are quantile-normalised and corrected by ComBat; they are linear and
reach 1e8 and more, since ComBat was undone from logarithms. The counts are those of RSEM.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from transcriptome_diffusion.cohorts import barcodes
from transcriptome_diffusion.cohorts.options import RNAseqDBOptions
from transcriptome_diffusion.cohorts.tables import read_matrix
from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.expression.units import COUNTS, settle_negative

logger = logging.getLogger(__name__)

ID_COLUMNS = ("Hugo_Symbol", "Entrez_Gene_Id")
FILE_PATTERN = "<cohort>-rsem-{}-<gtex|tcga|tcga-t>.txt.gz"
#: the word in a file's name, and the unit, by what the option `values` says
VALUES = {"fpkm": ("fpkm", "FPKM"), "counts": ("count", COUNTS)}
PUBLISHED_AT = "https://github.com/mskcc/RNAseqDB (folders data/normalized and data/expected_count)"

_FILE_NAME = re.compile(r"(?P<cohort>.+)-rsem-(?P<values>fpkm|count)-(?P<kind>gtex|tcga|tcga-t)\.txt\.gz")


@dataclass(frozen=True, eq=False)
class _File:
    """One file: ``values`` is (n_samples, n_genes) float32, ``entrez`` maps the symbols, in order, to Entrez ids."""

    path: Path
    obs: pd.DataFrame
    entrez: pd.Series
    values: np.ndarray


def read_rnaseqdb(folder: Path, options: RNAseqDBOptions) -> ad.AnnData:
    """Read every file of a folder named ``<cohort>-rsem-<fpkm|count>-<gtex|tcga|tcga-t>.txt.gz``.

    Files of other names, and those of the other values, are left alone.

    Gene lists differ between files: the genes are those of all files, by symbol, in the order of the first
    file. A symbol that repeats within a file, or whose Entrez id differs between files, is ambiguous: it is
    dropped and named in a warning. Entrez id 0 means that there is none and becomes "".

    Returns:
        (n_samples, n_genes), linear FPKM, or RSEM's expected counts. ``obs``: ``donor`` (TCGA: the patient, first
        12 characters of the barcode; GTEx: the first two fields), ``study`` (``TCGA`` or ``GTEX``), ``sample_type``,
        and ``source`` (also as ``tissue``), the cohort in the file's name.

    Raises:
        FileNotFoundError: if the folder is missing or holds no such file.
        ValueError: if a file is broken, a value is not a non-negative number, or a sample comes twice.
    """
    lowest = 0 if options.negative == "refuse" else None
    parts = [_read_file(path, kind, cohort, lowest) for path, cohort, kind in _find_files(Path(folder), options)]
    _refuse_repeated_samples(parts)
    shared = _shared_genes(parts)
    values = np.concatenate([m.values[:, m.entrez.index.get_indexer(shared.index)] for m in parts])
    obs = pd.concat([m.obs for m in parts])
    var = pd.DataFrame(
        {"symbol": shared.index, "entrez_id": shared.to_numpy(), "ensembl_id": "", "is_landmark": False},
        index=pd.Index(shared.index, name="gene"),
    )
    logger.info(
        "Read %d samples of %d donors and %d shared genes (%d to %d per file) from %d files in %s",
        len(obs),
        obs["donor"].nunique(),
        len(var),
        min(len(m.entrez) for m in parts),
        max(len(m.entrez) for m in parts),
        len(parts),
        folder,
    )
    return settle_negative(make_profiles(values, obs, var, VALUES[options.values][1]), options.negative)


def _find_files(folder: Path, options: RNAseqDBOptions) -> list[tuple[Path, str, str]]:
    """(path, cohort, kind) of every file to read, sorted by name."""
    word = VALUES[options.values][0]
    pattern = FILE_PATTERN.format(word)
    where = f"Files named {pattern} are published at {PUBLISHED_AT}; set the folder in the catalog's cohort."
    if not folder.is_dir():
        raise FileNotFoundError(f"the RNAseqDB folder {folder} does not exist. {where}")
    files, others = [], []
    for path in sorted(folder.iterdir()):
        match = _FILE_NAME.fullmatch(path.name)
        if match and match["values"] == word:
            if match["kind"] in options.kinds:
                files.append((path, match["cohort"], match["kind"]))
        elif not path.name.startswith("."):
            others.append(path.name)
    if not files:
        found = f"only {others[:3]}" if others else "nothing"
        raise FileNotFoundError(f"no RNAseqDB file of the kinds {options.kinds} in {folder}, {found} else. {where}")
    if others:
        logger.warning("Left alone in %s, not named %s: %s", folder, pattern, ", ".join(others))
    return files


def _read_file(path: Path, kind: str, cohort: str, lowest: float | None) -> _File:
    matrix = read_matrix(path, id_columns=2, lowest=lowest)
    if tuple(matrix.id_columns) != ID_COLUMNS:
        raise ValueError(
            f"{path} lacks the id columns: expected its header to begin with {list(ID_COLUMNS)}, found "
            f"{matrix.id_columns}."
        )
    study = "GTEX" if kind == "gtex" else "TCGA"
    obs = pd.DataFrame(
        {
            "donor": [_donor(path, sample, study) for sample in matrix.samples],
            "study": study,
            "sample_type": "tumor" if kind == "tcga-t" else "normal",
            "source": cohort,
            "tissue": cohort,
        },
        index=pd.Index(matrix.samples, name="sample"),
    )
    entrez = pd.Series(matrix.descriptions, index=matrix.genes, dtype=object).str.strip().replace("0", "")
    repeated = entrez.index.duplicated(keep=False)
    if repeated.any():
        names = sorted(set(entrez.index[repeated]))
        logger.warning("Dropped %d symbols that repeat in %s: %s", len(names), path.name, ", ".join(names[:20]))
    return _File(path, obs, entrez[~repeated], matrix.values[:, ~repeated])


def _donor(path: Path, sample: str, study: str) -> str:
    donor = barcodes.donor(sample)
    if donor is None or not donor.startswith(f"{study}-") or not sample.startswith(f"{donor}-"):
        raise ValueError(f"{path}: the sample {sample!r} is not a {study} barcode, from which its donor is read.")
    return donor


def _refuse_repeated_samples(parts: list[_File]) -> None:
    origin = pd.Series(
        [m.path.name for m in parts for _ in range(len(m.obs))],
        index=np.concatenate([m.obs.index for m in parts]),
    )
    repeated = origin[origin.index.duplicated(keep=False)]
    if len(repeated):
        sample = repeated.index[0]
        raise ValueError(
            f"the sample {sample!r} comes {len(repeated[sample])} times, in {sorted(set(repeated[sample]))} "
            f"({repeated.index.nunique()} repeated samples in all). Remove the copies."
        )


def _shared_genes(parts: list[_File]) -> pd.Series:
    """Entrez ids by symbol of the genes in every file, in the order of the first."""
    entrez = pd.concat([m.entrez for m in parts], axis=1, join="inner")
    if entrez.empty:
        raise ValueError(
            f"the {len(parts)} files share no gene; {parts[0].path.name} begins with "
            f"{list(parts[0].entrez.index[:3])}. Do all files come from the same release?"
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
