"""The Toil recompute: TCGA, TARGET and GTEx through one pipeline, as log2(TPM + 0.001).

Vivian et al. (2017), doi:10.1038/nbt.3772; files from https://toil.xenahubs.net. One pipeline does not remove what sets
the studies apart: condition on ``study``, or read one of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from transcriptome_diffusion.cohorts import barcodes
from transcriptome_diffusion.cohorts.annotations import read_annotations
from transcriptome_diffusion.cohorts.gene_models import coding_genes
from transcriptome_diffusion.cohorts.options import ToilOptions
from transcriptome_diffusion.cohorts.tables import read_matrix
from transcriptome_diffusion.expression.identifiers import identify, without_version
from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.expression.units import TOIL_ZERO, settle_negative, undo_log

logger = logging.getLogger(__name__)

#: names of `_primary_site` that are another name of the same organ in another study; capitals are of no account
ALIASES = {"Thyroid Gland": "Thyroid", "Cervix Uteri": "Cervix"}
UNIT = "log2(TPM + 0.001)"
MATRIX = "TcgaTargetGtex_rsem_gene_tpm"
PHENOTYPE = "TcgaTargetGTEX_phenotype.txt"
GENE_NAMES = "gencode.v23.annotation.gene.probemap"
PUBLISHED_AT = "https://toil.xenahubs.net/download/"
#: of `_sample_type`, the first as a part of it: "Solid Tissue Normal", "Normal Tissue"; everything else is a tumour
NORMAL, CELL_LINE, NEITHER = "Normal", "Cell Line", ("", "Control Analyte")


def read_toil(folder: Path, options: ToilOptions) -> ad.AnnData:
    """Read the TPM matrix and the phenotype table of a folder; symbols come from the probe map where it is there.

    Columns without a phenotype, of other studies and of other sample types are left out and counted in
    the log. The whole matrix has 60,498 genes and some 19,000 samples, 4.6 GB: ``genes: coding`` reads a third of it.

    Returns:
        (n_samples, n_genes), linear TPM. ``obs``: ``donor``, ``study`` (``TCGA``, ``TARGET``, ``GTEX``),
        ``sample_type`` (``tumor``, ``normal``, ``cell_line``), ``sex``, and the other columns of the phenotype
        table under their names, ``_primary_site`` also as ``tissue``.

    Raises:
        FileNotFoundError: if the matrix or the phenotype table is missing.
        ValueError: if a file is broken, a column is unknown, no sample is left, or the values are in another unit.
    """
    matrix_path, phenotype_path = _need(folder, MATRIX), _need(folder, PHENOTYPE)
    obs = _read_phenotype(phenotype_path, options)
    matrix = read_matrix(matrix_path, keep=_wanted_genes(folder, options), keep_samples=set(obs.index).__contains__)
    lowest = float(matrix.values.min())
    if abs(lowest - TOIL_ZERO) > 0.01 and (options.negative == "refuse" or lowest > TOIL_ZERO):
        raise ValueError(
            f"{matrix_path} is not {UNIT}: its lowest value is {lowest:g}, that of an unexpressed gene would be "
            f"{TOIL_ZERO:g}. Is it the file of TPM?"
        )
    unit = undo_log(matrix.values, UNIT, options.negative)
    kept, var = identify(matrix.genes, kind="ensembl", where=matrix_path.name)
    values = matrix.values if len(kept) == len(matrix.genes) else np.ascontiguousarray(matrix.values[:, kept])
    names = _find(folder, GENE_NAMES)
    if names is not None:
        table = read_annotations(names, ["id", "gene"])
        symbols = dict(zip(table["id"].map(without_version), table["gene"], strict=True))
        var["symbol"] = [symbols.get(gene, "") for gene in var.index]
    obs = obs.loc[matrix.samples]
    logger.info(
        "Read %d samples of %d donors and %d genes: %s",
        len(obs),
        obs["donor"].nunique(),
        len(var),
        ", ".join(f"{study} {count}" for study, count in obs["study"].value_counts().items()),
    )
    return settle_negative(make_profiles(values, obs, var, unit), options.negative)


def _find(folder: Path, name: str) -> Path | None:
    """The file of a name, plain or gzipped; the publisher is not of one mind about capitals."""
    wanted = {name.lower(), f"{name.lower()}.gz"}
    return next((path for path in sorted(folder.iterdir()) if path.name.lower() in wanted), None)


def _need(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"the Toil folder {folder} does not exist; set it in the catalog's cohort.")
    if (found := _find(folder, name)) is None:
        raise FileNotFoundError(f"{name} is not in {folder}; it is at {PUBLISHED_AT}{name}.gz.")
    return found


def _read_phenotype(path: Path, options: ToilOptions) -> pd.DataFrame:
    """The sample table of the wanted samples."""
    table = read_annotations(path, encoding="latin-1")
    # 0xCA is the blank of Mac Roman: "Sympathetic\xcaNervous System"
    table = table.apply(lambda column: column.str.replace(r"(?<=\w)\xca(?=\w)", " ", regex=True))
    # R turns a leading underscore into X_
    table.columns = table.columns.str.replace(r"^X_", "_", regex=True)
    needed = ["sample", "_sample_type", "_gender", "_study", "_primary_site"]
    if missing := [column for column in needed if column not in table]:
        raise ValueError(f"{path} has no column {missing}; its columns are {list(table)}. Is it that of the recompute?")
    table = table.drop_duplicates("sample").set_index("sample")
    table["_primary_site"] = table["_primary_site"].replace(ALIASES)
    said = table["_sample_type"]
    kinds = {"cell_line": said == CELL_LINE, "normal": said.str.contains(NORMAL), "": said.isin(NEITHER)}
    obs = pd.DataFrame(
        {
            "donor": [barcodes.donor(sample) or sample for sample in table.index],
            "study": table["_study"].str.upper(),
            "sample_type": np.select(list(kinds.values()), list(kinds), "tumor"),
            "tissue": table["_primary_site"],
            "sex": table["_gender"].str.lower().replace("", "unknown"),
        },
        index=table.index,
    ).join(table.drop(columns=["_sample_type", "_gender", "_study"]))
    wanted = {
        f"of {' or '.join(options.studies)}": obs["study"].isin(options.studies),
        f"{' or '.join(options.sample_types)}": obs["sample_type"].isin(options.sample_types),
    }
    kept = pd.concat(wanted, axis=1).all(axis=1)
    counts = ", ".join(f"{rows.sum()} {what}" for what, rows in wanted.items())
    logger.info("%s: %d samples, of which %s", path.name, len(obs), counts)
    if not kept.any():
        raise ValueError(f"no sample of {path} is left: of {len(obs)}, {counts}. Widen the reader's options.")
    return obs[kept]


def _wanted_genes(folder: Path, options: ToilOptions) -> Callable[[str], bool] | None:
    if options.genes == "all":
        return None
    models = sorted(folder.glob("*.gtf*"))
    if len(models) != 1:
        raise FileNotFoundError(
            f"`genes: coding` needs one gene model (such as gencode.v23.annotation.gtf.gz) in {folder}, found "
            f"{[path.name for path in models]}. Put it there, or set `genes: all`."
        )
    coding = coding_genes(models[0])
    return lambda gene: without_version(gene) in coding
