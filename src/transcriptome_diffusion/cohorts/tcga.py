"""TCGA gene expression: the batch-adjusted PanCanAtlas matrix (EB++), as the GDC or as UCSC Xena packs it, or Firehose.

Hoadley et al. (2018), doi:10.1016/j.cell.2018.03.022; https://gdc.cancer.gov/about-data/publications/pancanatlas,
https://xenabrowser.net (cohort TCGA Pan-Cancer), https://gdac.broadinstitute.org. The values are RSEM, normalised by
the upper quartile: neither TPM nor FPKM. The adjustment made some negative, and left genes out that a platform lacks.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from transcriptome_diffusion.cohorts import barcodes
from transcriptome_diffusion.cohorts.annotations import read_annotations
from transcriptome_diffusion.cohorts.options import TCGAOptions
from transcriptome_diffusion.cohorts.tables import read_matrix
from transcriptome_diffusion.expression.identifiers import identify
from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.expression.units import settle_negative, undo_log

logger = logging.getLogger(__name__)

UNIT = "RSEM"
QUALITY_FILE = "merged_sample_quality_annotations.tsv"
PHENOTYPE_FILE = "TCGA_phenotype_denseDataOnlyDownload.tsv"
SURVIVAL_FILE = "Survival_SupplementalTable_S1_20171025_xena_sp"
#: ending of Firehose's clinical tables, and their rows
CLINICAL_ENDING, CLINICAL_AGE, CLINICAL_SEX = ".clin.merged.picked.txt", "years_to_birth", "gender"
#: Firehose cohorts that hold the samples of others once more
UNIONS = {
    "COADREAD": {"COAD", "READ"},
    "GBMLGG": {"GBM", "LGG"},
    "KIPAN": {"KICH", "KIRC", "KIRP"},
    "STES": {"STAD", "ESCA"},
}
#: the free text of Xena's `_primary_disease`
DISEASES = {
    "acute myeloid leukemia": "LAML",
    "adrenocortical cancer": "ACC",
    "bladder urothelial carcinoma": "BLCA",
    "brain lower grade glioma": "LGG",
    "breast invasive carcinoma": "BRCA",
    "cervical & endocervical cancer": "CESC",
    "cholangiocarcinoma": "CHOL",
    "colon adenocarcinoma": "COAD",
    "diffuse large B-cell lymphoma": "DLBC",
    "esophageal carcinoma": "ESCA",
    "glioblastoma multiforme": "GBM",
    "head & neck squamous cell carcinoma": "HNSC",
    "kidney chromophobe": "KICH",
    "kidney clear cell carcinoma": "KIRC",
    "kidney papillary cell carcinoma": "KIRP",
    "liver hepatocellular carcinoma": "LIHC",
    "lung adenocarcinoma": "LUAD",
    "lung squamous cell carcinoma": "LUSC",
    "mesothelioma": "MESO",
    "ovarian serous cystadenocarcinoma": "OV",
    "pancreatic adenocarcinoma": "PAAD",
    "pheochromocytoma & paraganglioma": "PCPG",
    "prostate adenocarcinoma": "PRAD",
    "rectum adenocarcinoma": "READ",
    "sarcoma": "SARC",
    "skin cutaneous melanoma": "SKCM",
    "stomach adenocarcinoma": "STAD",
    "testicular germ cell tumor": "TGCT",
    "thymoma": "THYM",
    "thyroid carcinoma": "THCA",
    "uterine carcinosarcoma": "UCS",
    "uterine corpus endometrioid carcinoma": "UCEC",
    "uveal melanoma": "UVM",
}

_PACKAGINGS = {
    "gdc": re.compile(r"EBPlusPlusAdjustPANCAN_IlluminaHiSeq_RNASeqV2.*\.tsv(\.gz)?"),
    "xena": re.compile(r"EB(\+\+|%2B%2B)AdjustPANCAN_IlluminaHiSeq_RNASeqV2.*\.xena(\.gz)?"),
    "firehose": re.compile(
        r"(?P<cohort>[A-Z]+)\.rnaseqv2__illuminahiseq_rnaseqv2__unc_edu__Level_3__"
        r"RSEM_genes_normalized__data\.data\.txt(\.gz)?"
    ),
}


@dataclass(frozen=True, eq=False)
class _Part:
    """One file, cut to the samples that are wanted: ``values`` is (n_samples, n_genes)."""

    path: Path
    obs: pd.DataFrame
    genes: list[str]
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class _Samples:
    """What the tables beside the matrix say of a sample: its cancer type, and what else is known."""

    cancer: Callable[[str], str | None]
    where: Path
    flagged: frozenset[str] = frozenset()
    covariates: pd.DataFrame | None = None

    def known(self, names: Sequence[str]) -> pd.DataFrame:
        """The covariates of samples by their barcodes, row for row; those of the patient where they are by patient."""
        table = pd.DataFrame(index=range(0)) if self.covariates is None else self.covariates
        length = len(table.index[0]) if len(table) else 0
        return table.reindex([name[:length] for name in names])

    @cached_property
    def told(self) -> dict[str, frozenset[str]]:
        """By covariate, the barcodes of the tables that have a value of it; made once for all samples of a file."""
        if self.covariates is None:
            return {}
        return {
            str(name): frozenset(self.covariates.index[column.notna() & (column != "")])
            for name, column in self.covariates.items()
        }

    def has(self, sample: str, name: str) -> bool:
        """Whether the tables say an ``age`` or a ``sex`` of the sample, or of its patient."""
        told = self.told.get(name, frozenset())
        return sample[:15] in told or sample[:12] in told


def read_tcga(folder: Path, options: TCGAOptions) -> ad.AnnData:
    """Read the EB++ matrix, or every Firehose cohort, in a folder; the files are found by their published names.

    Of several aliquots of a sample one is read, see ``barcodes.preferred_aliquots``. Negative values become 0, unless
    ``negative`` says otherwise.
    Tumour and normal are told by the barcode. Firehose's union cohorts are left alone if a member is there, unless
    ``unions: twice`` asks for their samples once more, as the authors' code of Lacan et al. reads STES.

    Returns:
        (n_samples, n_genes), linear RSEM, NaN where a gene was not measured. ``obs``: ``donor`` (the patient),
        ``study`` (``TCGA``), ``sample_type``, ``cancer_type`` such as ``BRCA`` (also as ``tissue``), and
        ``age`` and ``sex`` where Xena's survival table, or Firehose's clinical tables, are in the folder.

    Raises:
        FileNotFoundError: if the matrix, or the table that tells the cancer types, is not there.
        ValueError: if a file is broken, or no sample is left.
    """
    packaging, files = _find_files(folder, options)
    parts = _read_all(folder, packaging, files, options)
    obs = pd.concat([part.obs for part in parts])
    # a union cohort that is read beside its members has their samples once more
    again = np.array([_union(part.path) for part in parts for _ in range(len(part.obs))])
    genes, values = parts[0].genes, _stack(parts)
    parts.clear()  # or their values would stay beside the copies made of them
    rows = np.sort(np.concatenate([_one_aliquot_each(obs.index, again == union) for union in np.unique(again)]))
    obs.index = [f"{name}-{union}" if union else name for name, union in zip(obs.index, again, strict=True)]
    kept, var = (_xena_genes if packaging == "xena" else identify)(genes, where=files[0][0].name)
    if len(rows) < len(obs) or len(kept) < len(genes):
        values = values[np.ix_(rows, kept)]
    if len(rows) < len(obs):
        times = obs.index.str[:15].value_counts()
        repeated = sorted(times.index[times > 1])
        logger.info("Of the aliquots of %d samples one each was kept: %s", len(repeated), ", ".join(repeated[:20]))
        obs = obs.iloc[rows]
    negative = int((values < 0).sum())
    undo_log(values, f"log2({UNIT} + 1)" if packaging == "xena" else UNIT, options.negative)
    logger.info(
        "Read %d samples of %d patients and %d cancer types, %d genes of which %d miss a value; %d negative values, "
        "`negative: %s`",
        len(obs),
        obs["donor"].nunique(),
        obs["cancer_type"].nunique(),
        len(var),
        int(np.isnan(values.sum(axis=0)).sum()),
        negative,
        options.negative,
    )
    return settle_negative(make_profiles(values, obs, var, UNIT, missing=True), options.negative)


def _union(path: Path) -> str:
    """The union cohort whose file it is, or ""."""
    found = _PACKAGINGS["firehose"].fullmatch(path.name)
    return found["cohort"] if found and found["cohort"] in UNIONS else ""


def _one_aliquot_each(names: pd.Index, part: np.ndarray) -> np.ndarray:
    """Places of one aliquot per sample among the rows of ``part``, (n,) bool."""
    places = np.flatnonzero(part)
    return places[barcodes.preferred_aliquots(list(names[places]))]


def _read_all(folder: Path, packaging: str, files: list[tuple[Path, str]], options: TCGAOptions) -> list[_Part]:
    """The files that have wanted samples, cut to these."""
    quality, flagged = _read_quality(_find_table(folder, QUALITY_FILE))
    if packaging == "firehose":
        read = [_read(path, _firehose_samples(folder, path, cohort, flagged), options) for path, cohort in files]
    elif packaging == "gdc":
        read = [_read(files[0][0], _gdc_samples(folder, quality, flagged), options)]
    else:
        read = [_read(files[0][0], _xena_samples(folder, flagged), options)]
    parts = [part for part in read if isinstance(part, _Part)]
    if not parts:
        raise ValueError(
            f"no sample of {', '.join(path.name for path, _ in files[:3])} is left: {read[0]}. Set `sample_types` and "
            "`do_not_use` of the reader, or fetch tables that belong to the matrix."
        )
    return parts


def _find_files(folder: Path, options: TCGAOptions) -> tuple[str, list[tuple[Path, str]]]:
    """The packaging, and (path, cohort) of its matrices; the cohort is "" for EB++."""
    if not folder.is_dir():
        raise FileNotFoundError(f"the TCGA folder {folder} does not exist; set it in the catalog's cohort.")
    found: dict[str, list[tuple[Path, str]]] = {}
    for path in sorted(folder.rglob("*")):
        for packaging, pattern in _PACKAGINGS.items():
            if (match := pattern.fullmatch(path.name)) and path.is_file():
                found.setdefault(packaging, []).append((path, match.groupdict().get("cohort", "")))
    wanted = [options.packaging] if options.packaging else [name for name in _PACKAGINGS if name in found]
    if len(wanted) > 1:
        raise ValueError(f"{folder} holds {' and '.join(wanted)} matrices; set `packaging` to one of them.")
    if not wanted or wanted[0] not in found:
        raise FileNotFoundError(
            f"no {options.packaging or 'TCGA'} matrix in {folder}: expected "
            "EBPlusPlusAdjustPANCAN_IlluminaHiSeq_RNASeqV2.geneExp.tsv (GDC), "
            "EB++AdjustPANCAN_IlluminaHiSeq_RNASeqV2.geneExp.xena.gz (Xena), or "
            "<COHORT>.rnaseqv2__..._RSEM_genes_normalized__data.data.txt (Firehose)."
        )
    packaging, files = wanted[0], found[wanted[0]]
    if packaging != "firehose":
        if len(files) > 1:
            raise ValueError(f"{folder} holds the matrix several times: {[str(path) for path, _ in files]}. Keep one.")
        return packaging, files
    cohorts = {cohort for _, cohort in files}
    unions = sorted(cohort for cohort in cohorts if UNIONS.get(cohort, set()) & cohorts)
    if unions and options.unions == "twice":
        logger.warning("Read beside their members, so that samples come twice: %s", ", ".join(unions))
        return packaging, files
    if unions:
        logger.info("Left alone, since their members are there: %s", ", ".join(unions))
    if absent := sorted(set().union(*(UNIONS[cohort] for cohort in unions)) - cohorts):
        logger.warning("Without a file of their own, so that their samples are not read: %s", ", ".join(absent))
    return packaging, [(path, cohort) for path, cohort in files if cohort not in unions]


def _find_table(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _read_quality(path: Path | None) -> tuple[pd.DataFrame | None, frozenset[str]]:
    """The quality annotations, and the RNA-seq aliquots that they mark Do_not_use."""
    if path is None:
        return None, frozenset()
    table = read_annotations(path, ["patient_barcode", "aliquot_barcode", "cancer type", "platform", "Do_not_use"])
    marked = table["Do_not_use"].str.lower().isin(["true", "1"]) & table["platform"].str.contains("RNASeqV2")
    return table, frozenset(table.loc[marked, "aliquot_barcode"])


def _gdc_samples(folder: Path, quality: pd.DataFrame | None, flagged: frozenset[str]) -> _Samples:
    if quality is None:
        raise FileNotFoundError(
            f"{QUALITY_FILE}, which tells the cancer types, is not in {folder}. "
            "It is at https://api.gdc.cancer.gov/data/1a7d7be8-675d-4e60-a105-19d4121bdebf."
        )
    told = quality[quality["cancer type"] != ""]
    cancers = dict(zip(told["patient_barcode"], told["cancer type"], strict=True))
    return _Samples(lambda sample: cancers.get(sample[:12]), folder / QUALITY_FILE, flagged)


def _firehose_samples(folder: Path, path: Path, cohort: str, flagged: frozenset[str]) -> _Samples:
    clinical = next(folder.rglob(f"{cohort}{CLINICAL_ENDING}"), None)
    covariates = None if clinical is None else _read_clinical(clinical)
    return _Samples(lambda sample: cohort, path if clinical is None else clinical, flagged, covariates)


def _read_clinical(path: Path) -> pd.DataFrame:
    """``age`` and ``sex`` by patient from Firehose's picked clinical table, which has the patients in columns."""
    table = read_annotations(path)
    table = table.set_index(table.columns[0]).T
    if absent := [name for name in (CLINICAL_AGE, CLINICAL_SEX) if name not in table]:
        raise ValueError(f"{path} has no row {absent}; its rows are {list(table)[:8]}. Fetch the file again.")
    age, sex = pd.to_numeric(table[CLINICAL_AGE], errors="coerce"), table[CLINICAL_SEX].str.lower()
    return pd.DataFrame({"age": age, "sex": sex.where(sex.isin(["male", "female"]), "")}).rename(index=str.upper)


def _xena_samples(folder: Path, flagged: frozenset[str]) -> _Samples:
    flagged = frozenset(aliquot[:15] for aliquot in flagged)
    survival, phenotype = (_find_table(folder, name) for name in (SURVIVAL_FILE, PHENOTYPE_FILE))
    if survival is None and phenotype is None:
        raise FileNotFoundError(
            f"neither {PHENOTYPE_FILE}.gz nor {SURVIVAL_FILE}, which tell the cancer types, is in {folder}. "
            "They are at https://tcga-pancan-atlas-hub.s3.us-east-1.amazonaws.com/download/."
        )
    cancers: dict[str, str] = {}
    covariates = None
    if phenotype is not None:
        table = read_annotations(phenotype, ["sample", "_primary_disease"])
        unknown = sorted(set(table["_primary_disease"]) - set(DISEASES) - {""})
        if unknown and survival is None:
            raise ValueError(
                f"{phenotype} names diseases without a known abbreviation: {unknown[:5]}. Put {SURVIVAL_FILE} beside "
                "it, which holds the abbreviations."
            )
        abbreviations = table["_primary_disease"].map(DISEASES).fillna("")
        cancers |= dict(zip(table["sample"], abbreviations, strict=True))
    if survival is not None:  # it holds fewer samples
        table = read_annotations(survival, ["sample", "cancer type abbreviation"]).drop_duplicates("sample")
        table = table.set_index("sample")
        known = table.loc[table["cancer type abbreviation"] != "", "cancer type abbreviation"]
        cancers |= dict(zip(known.index, known, strict=True))
        covariates = pd.DataFrame(index=table.index)
        if "gender" in table:
            covariates["sex"] = table["gender"].str.lower()
        if "age_at_initial_pathologic_diagnosis" in table:
            covariates["age"] = pd.to_numeric(table["age_at_initial_pathologic_diagnosis"], errors="coerce")
    where = next(path for path in (survival, phenotype) if path is not None)
    return _Samples(cancers.get, where, flagged, covariates)


def _read(path: Path, samples: _Samples, options: TCGAOptions) -> _Part | str:
    """The wanted samples of a file, or why there is none."""
    if options.require and samples.covariates is None:
        raise FileNotFoundError(
            f"`require: {options.require}` needs a clinical table beside {path.name}, and there is none: "
            f"<COHORT>{CLINICAL_ENDING} of Firehose's Clinical_Pick_Tier1, or {SURVIVAL_FILE} of Xena."
        )
    fate: dict[str, list[str]] = {}

    def keep(sample: str) -> bool:
        reason = _why_not(sample, samples, options)
        fate.setdefault(reason, []).append(sample)
        return not reason

    try:
        matrix = read_matrix(
            path,
            second_header=_PACKAGINGS["firehose"].fullmatch(path.name) is not None,
            keep_samples=keep,
            missing="nan",
            on_repeated_samples="keep",  # the nine of Xena, whose barcodes were cut
        )
    except ValueError:
        if not fate or "" in fate:
            raise
        matrix = None
    left_out = "; ".join(f"{len(names)} {reason} ({', '.join(names[:3])})" for reason, names in fate.items() if reason)
    if left_out:
        logger.info("%s: left out %s", path.name, left_out)
    if matrix is None:
        return left_out
    obs = pd.DataFrame(
        {
            "donor": [barcodes.donor(sample) for sample in matrix.samples],
            "study": "TCGA",
            "sample_type": [barcodes.sample_type(sample) for sample in matrix.samples],
            "cancer_type": [samples.cancer(sample) for sample in matrix.samples],
        },
        index=pd.Index(matrix.samples, name="sample"),
    )
    obs["tissue"] = obs["cancer_type"]
    if samples.covariates is not None:
        known = samples.known(list(obs.index))
        for name in known:
            obs[name] = known[name].to_numpy()
        if "sex" in known:
            obs["sex"] = obs["sex"].replace("", None).fillna("unknown")
    return _Part(path, obs, matrix.genes, matrix.values)


def _why_not(sample: str, samples: _Samples, options: TCGAOptions) -> str:
    """Why a sample is left out, or ""."""
    kind = barcodes.sample_type(sample)
    if kind is None:
        return "neither tumour nor normal by the barcode"
    if kind not in options.sample_types:
        return f"not {' or '.join(options.sample_types)}"
    if options.do_not_use == "drop" and sample in samples.flagged:
        return "marked Do_not_use"
    if lacking := [name for name in options.require if not samples.has(sample, name)]:
        return f"without {' and '.join(lacking)} in {samples.where.name}"
    return "" if samples.cancer(sample) else f"without a cancer type in {samples.where.name}"


def _stack(parts: list[_Part]) -> np.ndarray:
    """Values (n_samples, n_genes) of all files; Firehose lists the same genes in each."""
    first = parts[0]
    for part in parts[1:]:
        if part.genes != first.genes:
            raise ValueError(
                f"{part.path} lists {len(part.genes)} genes, {first.path} lists {len(first.genes)}, or in another "
                "order; do they come from one release?"
            )
    return first.values if len(parts) == 1 else np.concatenate([part.values for part in parts])


def _xena_genes(genes: list[str], where: str) -> tuple[np.ndarray, pd.DataFrame]:
    """As ``identify``: Xena cut ``SYMBOL|ENTREZ`` at the bar and kept the Entrez id where there is no symbol."""
    kept, var = identify(genes, kind="symbol", where=where)
    nameless = var.index.str.fullmatch(r"\d+")
    var.loc[nameless, "entrez_id"] = var.index[nameless]
    var.loc[nameless, "symbol"] = ""
    return kept, var
