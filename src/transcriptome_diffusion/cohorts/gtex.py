"""GTEx: the gene TPM of a release (v8, v10, v11), with its sample attributes, subject phenotypes and gene model.

GTEx Consortium (2020), doi:10.1126/science.aaz1776; files from
https://gtexportal.org/home/downloads/adult-gtex/bulk_tissue_expression, open access.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import anndata as ad
import pandas as pd

from transcriptome_diffusion.cohorts import barcodes
from transcriptome_diffusion.cohorts.annotations import read_annotations
from transcriptome_diffusion.cohorts.gene_models import coding_genes
from transcriptome_diffusion.cohorts.options import GTExOptions
from transcriptome_diffusion.cohorts.tables import read_gct
from transcriptome_diffusion.expression.identifiers import identify, is_par_y, without_version
from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.expression.units import COUNTS, settle_negative

logger = logging.getLogger(__name__)

PUBLISHED_AT = "https://gtexportal.org/home/downloads/adult-gtex"
SEX = {"1": "male", "2": "female"}
UNKNOWN = "unknown"

# laser-capture samples have a matrix of their own, *_lcm; *_non_lcm is the bulk matrix under another name
_MATRICES = {
    "tpm": re.compile(r"(?!.*(?<!non)_lcm).*gene_tpm.*\.gct(\.gz)?"),
    "counts": re.compile(r"(?!.*(?<!non)_lcm).*gene_reads.*\.gct(\.gz)?"),
}
_ATTRIBUTES = re.compile(r".*SampleAttributesDS\.txt(\.gz)?")
_PHENOTYPES = re.compile(r".*SubjectPhenotypesDS\.txt(\.gz)?")
_GENE_MODEL = re.compile(r"gencode\..*\.gtf(\.gz)?")


def read_gtex(path: Path, options: GTExOptions) -> ad.AnnData:
    """Read a release from the folder of its published files, or from its matrix with the others beside it.

    Kept are the samples that the attributes list with ``SMAFRZE`` ``RNASEQ``, and the coding genes of the gene model;
    genes are named by their Ensembl id without version, since symbols repeat. Y copies of pseudoautosomal genes
    (``_PAR_Y``), zero as a rule, are dropped with a line in the log.

    Returns:
        (n_samples, n_genes), linear TPM, or read counts. ``obs``: ``SMTS`` (30 tissues, also as ``tissue``),
        ``SMTSD`` (54 sites), ``donor`` (first two fields of the sample id), ``study``, ``sample_type``, ``sex``
        (``male``, ``female``) and ``age_bracket`` (``60-69``), ``unknown`` where the phenotypes say nothing.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is broken or stands there in several releases, or the files do not belong together.
    """
    what = f"a matrix *gene_{'tpm' if options.values == 'tpm' else 'reads'}*.gct.gz"
    matrix_path = _find(path, _MATRICES[options.values], what, "filepath") if path.is_dir() else path
    if not matrix_path.is_file():
        raise FileNotFoundError(
            f"the GTEx folder or matrix {path} does not exist. The files are published at {PUBLISHED_AT}; set their "
            "folder as `filepath` of the cohort in the catalog."
        )
    samples = _sample_table(_beside(matrix_path, _ATTRIBUTES, "attributes", options))
    donors = _donor_table(_beside(matrix_path, _PHENOTYPES, "phenotypes", options))
    coding = None if options.genes == "all" else coding_genes(_beside(matrix_path, _GENE_MODEL, "gene_model", options))
    copies: list[str] = []
    unlisted: list[str] = []

    def is_listed(sample: str) -> bool:
        if sample in samples.index:
            return True
        unlisted.append(sample)
        return False

    def is_wanted(gene: str) -> bool:
        if is_par_y(gene):
            copies.append(gene)
            return False
        return coding is None or without_version(gene) in coding

    matrix = read_gct(
        matrix_path,
        keep=is_wanted,
        keep_samples=is_listed,
        lowest=0 if options.negative == "refuse" else None,
        most_genes=None if coding is None else len(coding),
    )
    if unlisted:  # there is none in a release as published
        logger.warning(
            "Left out %d of %d samples without a row with SMAFRZE RNASEQ in the attributes, such as %s. Are the "
            "attributes whole, and of this release?",
            len(unlisted),
            len(unlisted) + len(matrix.samples),
            ", ".join(unlisted[:3]),
        )
    if copies:
        logger.info(
            "Left out %d Y copies of pseudoautosomal genes (_PAR_Y), such as %s; the X copies stay",
            len(copies),
            ", ".join(copies[:3]),
        )
    if coding is not None and len(matrix.genes) < len(coding):
        logger.info("%d of %d coding genes of the gene model are measured", len(matrix.genes), len(coding))
    places, var = identify(matrix.genes, matrix.descriptions, "ensembl", matrix_path.name)
    values = matrix.values if len(places) == len(matrix.genes) else matrix.values[:, places]
    obs = samples.loc[matrix.samples]
    obs["donor"] = [_donor(sample) for sample in matrix.samples]
    obs["study"], obs["sample_type"] = "GTEX", "normal"
    if unknown := sorted(set(obs["donor"]) - set(donors.index)):
        logger.warning("%d donors have no row in the phenotypes: %s", len(unknown), ", ".join(unknown[:5]))
    obs = obs.join(donors.reindex(obs["donor"].unique(), fill_value=UNKNOWN), on="donor")
    logger.info(
        "Read %d samples of %d donors and %d genes from %s",
        len(obs),
        obs["donor"].nunique(),
        len(var),
        matrix_path.name,
    )
    unit = COUNTS if _MATRICES["counts"].fullmatch(matrix_path.name) else "TPM"
    return settle_negative(make_profiles(values, obs, var, unit), options.negative)


def _find(folder: Path, name: re.Pattern[str], what: str, option: str) -> Path:
    """The one file of a folder whose published name has this form."""
    found = sorted(path for path in folder.iterdir() if name.fullmatch(path.name))
    if len(found) == 1:
        return found[0]
    if not found:
        raise FileNotFoundError(
            f"{folder} lacks {what}, published at {PUBLISHED_AT}. Put it there, or give its path as `{option}`."
        )
    raise ValueError(
        f"{folder} has several files for `{option}`: {', '.join(path.name for path in found)}. Set `{option}` of the "
        "cohort in the catalog to the one that is meant."
    )


def _beside(matrix: Path, name: re.Pattern[str], option: str, options: GTExOptions) -> Path:
    """The file an option names, from the matrix's folder, or the one that stands there under its published name."""
    given = getattr(options, option)
    if given is None:
        what = {
            "attributes": "sample attributes *SampleAttributesDS.txt",
            "phenotypes": "subject phenotypes *SubjectPhenotypesDS.txt",
            "gene_model": "a gene model gencode.*.gtf (or set `genes: all`)",
        }[option]
        return _find(matrix.parent, name, what, option)
    path = matrix.parent / Path(given).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{path}, set as `{option}` of the cohort, does not exist.")
    return path


def _sample_table(path: Path) -> pd.DataFrame:
    """``tissue``, ``SMTS`` and ``SMTSD`` of every sample with RNA-seq."""
    # SMPTHNTS holds unbalanced quotation marks, which read_annotations takes for what they are
    table = read_annotations(path, ["SAMPID", "SMTS", "SMTSD", "SMAFRZE"])
    table = table[table["SMAFRZE"].isin(["RNASEQ", "USE ME"])]  # release v6 says USE ME
    if table.empty:
        raise ValueError(f"{path} lists no sample with SMAFRZE RNASEQ.")
    samples = pd.DataFrame({"tissue": table["SMTS"], "SMTS": table["SMTS"], "SMTSD": table["SMTSD"]})
    samples.index = pd.Index(table["SAMPID"], name="sample")
    if not samples.index.is_unique:
        raise ValueError(
            f"{path} lists {samples.index[samples.index.duplicated()][0]!r} more than once. Fetch the file again."
        )
    return samples


def _donor_table(path: Path) -> pd.DataFrame:
    """``sex`` and ``age_bracket`` by donor."""
    table = read_annotations(path, ["SUBJID", "AGE"]).rename(columns={"GENDER": "SEX"})  # so release v6
    if "SEX" not in table:
        raise ValueError(f"{path} has neither a column SEX nor GENDER; its columns are {list(table)[:12]}.")
    donors = pd.DataFrame(
        {"sex": table["SEX"].map(SEX).fillna(UNKNOWN), "age_bracket": table["AGE"].replace("", UNKNOWN)}
    )
    donors.index = pd.Index(table["SUBJID"])
    return donors[~donors.index.duplicated()]


def _donor(sample: str) -> str:
    donor = barcodes.donor(sample)
    if donor is None:
        raise ValueError(
            f"the sample {sample!r} is not a GTEx id such as GTEX-1117F-0226-SM-5GZZ7, which names its donor."
        )
    return donor
