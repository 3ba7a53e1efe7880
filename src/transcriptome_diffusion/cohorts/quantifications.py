"""Folders with one file per sample, as quantification programs write them: counts or TPM of genes or transcripts.

Recognised by their columns: salmon ``quant.sf``, kallisto ``abundance.tsv``, RSEM ``*.genes.results`` and
``*.isoforms.results``, StringTie ``gene_abund.tab``, STAR ``ReadsPerGene.out.tab``, STAR as the GDC has it, and HTSeq.
Counts and TPM of transcripts are summed over a gene, as tximport does (Soneson et al. 2015,
doi:10.12688/f1000research.7563.2).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from transcriptome_diffusion.cohorts.annotations import read_annotations
from transcriptome_diffusion.cohorts.tables import text_blocks, text_lines
from transcriptome_diffusion.expression.identifiers import without_version

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Format:
    """A program's file: its column of ids, those of counts and TPM (None where it has none), and whose ids they are."""

    program: str
    ids: str
    counts: str | None
    tpm: str | None
    transcripts: bool = False


#: by the columns that tell them
_FORMATS = (
    _Format("salmon", "Name", "NumReads", "TPM", transcripts=True),
    _Format("kallisto", "target_id", "est_counts", "tpm", transcripts=True),
    _Format("RSEM (isoforms)", "transcript_id", "expected_count", "TPM", transcripts=True),
    _Format("RSEM (genes)", "gene_id", "expected_count", "TPM"),
    _Format("StringTie", "Gene ID", None, "TPM"),
    _Format("STAR (GDC)", "gene_id", "unstranded", "tpm_unstranded"),
)
#: GDC's names of STAR's columns
_GDC_STRANDS = {"unstranded": "unstranded", "forward": "stranded_first", "reverse": "stranded_second"}
#: STAR's columns after the gene, by the strand of the library
STRANDS = {"unstranded": 1, "forward": 2, "reverse": 3}
#: what programs are called that count reads, and how their last or first rows begin, which are no genes
_COUNTED, _NO_GENE = {2: "HTSeq", 4: "STAR"}, re.compile(r"__\w+|N_\w+")
_GENE_ID = re.compile(r"ENS[A-Z]*G\d{11}.*")


def read_quantifications(
    folder: Path,
    samples: Sequence[str],
    files: Mapping[str, str] | None,
    *,
    quantity: Literal["counts", "TPM"],
    tx2gene: Path | None = None,
    strand: str = "unstranded",
) -> tuple[list[str], list[str], np.ndarray]:
    """Read the files of all samples that have one.

    Args:
        folder: in which the files lie, at any depth.
        samples: their names.
        files: the path of each sample's file in the folder, or its name in a folder below, as the GDC has them; None:
            the one file, or file in a folder, that is named after the sample.
        quantity: which column is read.
        tx2gene: a table of transcripts and their genes, for files of transcripts.
        strand: which of STAR's columns.

    Returns:
        Samples, genes, and values (n_samples, n_genes) float32; a gene that a file lacks is 0, as it was not seen.

    Raises:
        FileNotFoundError: if a named file, or every file, is missing.
        ValueError: if a file is of no known program, or of transcripts without ``tx2gene``.
    """
    found = _named(folder, samples, files) if files is not None else _by_name(folder, samples)
    genes = None if tx2gene is None else _read_tx2gene(tx2gene)
    columns: dict[str, pd.Series] = {}
    for sample, path in found.items():
        columns[sample] = _read(path, quantity, genes, strand)
    table = pd.concat(columns, axis=1)
    if (gaps := int(table.isna().any(axis=1).sum())) and gaps > 0.5 * len(table):
        raise ValueError(f"{gaps} of {len(table)} genes are not in every file of {folder}: are they of one annotation?")
    logger.info("Read %s of %d samples from %s", quantity, len(found), folder)
    return list(found), list(table.index), np.ascontiguousarray(table.fillna(0).to_numpy(dtype=np.float32).T)


def _named(folder: Path, samples: Sequence[str], files: Mapping[str, str]) -> dict[str, Path]:
    found = {sample: folder / files[sample] for sample in samples if files.get(sample)}
    if any(not path.is_file() for path in found.values()):
        below = {path.name: path for path in folder.rglob("*") if path.is_file()}
        found = {sample: path if path.is_file() else below.get(path.name, path) for sample, path in found.items()}
    if missing := [path for path in found.values() if not path.is_file()]:
        raise FileNotFoundError(f"{len(missing)} files of the sample table are not there, for instance {missing[0]}.")
    return found


def _by_name(folder: Path, samples: Sequence[str]) -> dict[str, Path]:
    """The file of each sample: ``S1/quant.sf``, ``S1.genes.results``, ``S1_ReadsPerGene.out.tab``."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    found = {}
    for sample in samples:
        own = re.compile(rf"(.*/)?{re.escape(sample)}([._/-].*)?")
        mine = [path for path in files if own.fullmatch(str(path.relative_to(folder)))]
        known = [path for path in mine if _known(path) is not None]
        if len(known) > 1 and (results := [path for path in known if ".genes.results" in path.name]):
            known = results
        if len(known) > 1:
            raise ValueError(
                f"several files of {folder} are named after {sample!r}: {[path.name for path in known][:4]}. Name one "
                "each in a column of the sample table, as in columns: {file: ...}."
            )
        if known:
            found[sample] = known[0]
    if not found:
        raise FileNotFoundError(
            f"no file of {folder} is named after a sample, such as {samples[0]!r}; it holds "
            f"{[str(path.relative_to(folder)) for path in files[:3]]}. Name them in a column of the sample table, "
            "as in columns: {file: ...}."
        )
    return found


def _known(path: Path) -> _Format | int | None:
    """The format of a file by its first lines: one with a header, or the number of columns of one without."""
    try:
        lines = text_lines(text_blocks(path))
        first = next(lines)
        if first.block.startswith(b"#", first.start):
            first = next(lines)
        header = first.block[first.start : first.stop].decode("utf-8", errors="replace").split("\t")
    except (ValueError, StopIteration):
        return None
    for known in _FORMATS:
        if {known.ids, known.tpm or known.counts or ""} <= set(header):
            return known
    numbers = all(re.fullmatch(r"\d+(\.\d+)?", cell) for cell in header[1:])
    return len(header) if len(header) in _COUNTED and numbers else None


def _read(path: Path, quantity: str, genes: Mapping[str, str] | None, strand: str) -> pd.Series:
    """One sample's values by gene."""
    kind = _known(path)
    if kind is None:
        raise ValueError(
            f"{path} is no file of salmon, kallisto, RSEM, StringTie, STAR or HTSeq by its first lines. Merge "
            "such files into one matrix, genes in rows."
        )
    if isinstance(kind, int):
        if quantity != "counts":
            raise ValueError(f"{path} is of {_COUNTED[kind]}, which counts reads: declare `unit: counts`.")
        table = pd.read_csv(path, sep="\t", header=None, dtype={0: str}, compression=_compression(path))
        values = table.set_index(0)[STRANDS[strand] if kind == 4 else 1]
        return values[[_NO_GENE.fullmatch(name) is None for name in values.index]]
    column = kind.counts if quantity == "counts" else kind.tpm
    if column in _GDC_STRANDS:
        column = _GDC_STRANDS[strand]
    if column is None:
        raise ValueError(f"{path} is of {kind.program}, which gives TPM and no counts: declare `unit: TPM`.")
    table = pd.read_csv(
        path,
        sep="\t",
        usecols=[kind.ids, column],
        dtype={kind.ids: str},
        compression=_compression(path),
        comment="#" if kind.program == "STAR (GDC)" else None,
    )
    values = table.set_index(kind.ids)[column]
    values = values[[_NO_GENE.fullmatch(name) is None for name in values.index]]
    if not kind.transcripts or (genes is None and _GENE_ID.fullmatch(values.index[0])):
        return values.groupby(level=0, sort=False).sum()
    if genes is None:
        raise ValueError(
            f"{path} is of {kind.program} and holds transcripts, such as {values.index[0]!r}. Set `tx2gene` to a table "
            "of transcripts and their genes."
        )
    names = values.index.map(lambda name: genes.get(name) or genes.get(without_version(name)) or "")
    if (unknown := float((names == "").mean())) > 0.2:
        raise ValueError(
            f"{unknown:.0%} of the transcripts of {path}, such as {values.index[names == ''][0]!r}, are not in "
            "`tx2gene`: are both of one annotation?"
        )
    return values.groupby(names, sort=False).sum().drop("", errors="ignore")


def _compression(path: Path) -> Literal["gzip"] | None:
    with path.open("rb") as file:
        return "gzip" if file.read(2) == b"\x1f\x8b" else None


def _read_tx2gene(path: Path) -> dict[str, str]:
    """Genes by transcript: the first two columns, with and without versions."""
    table = read_annotations(path, separator=None, quoted=True, mend="Set `tx2gene` of the cohort.")
    pairs = dict(zip(table.iloc[:, 0], table.iloc[:, 1], strict=True))
    return {without_version(name): gene for name, gene in pairs.items()} | pairs
