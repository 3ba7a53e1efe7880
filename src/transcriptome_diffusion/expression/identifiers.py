"""Gene identifiers: what kind a list of them is, and the gene table that follows from it.

A source names its genes by Ensembl id (with or without a version), by Entrez id, by symbol, or by symbol and Entrez
id at once (``A1BG|1``, as in the TCGA matrices). The id stays the key, the symbol an attribute: symbols repeat.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd

from transcriptome_diffusion.expression.options import GeneIds

logger = logging.getLogger(__name__)

KINDS: tuple[GeneIds, ...] = get_args(GeneIds)

_ENSEMBL = re.compile(r"ENSG(R\d{10}|\d{11})(\.\d+)?(_PAR_Y)?")
# the Y copy of a gene on both X and Y: ENSG00000228572.7_PAR_Y since GENCODE 25, ENSGR0000228572.7 before
_PAR_Y = re.compile(r"ENSGR\d{10}(\.\d+)?|ENSG\d{11}(\.\d+)?_PAR_Y")
_RECOGNISED: dict[GeneIds, Callable[[str], object]] = {
    "ensembl": _ENSEMBL.fullmatch,
    "entrez": re.compile(r"\d+(\.0)?").fullmatch,  # pandas writes whole numbers beside a missing one as 16.0
    "symbol|entrez": re.compile(r"[^|]+\|\d+|[^()]+ \(\d+\)").fullmatch,  # TCGA: A1BG|1; DepMap: A1BG (1)
    "symbol": lambda gene: True,
}


def kind_of(gene: str) -> GeneIds:
    """The kind of a single id; what is none of the others is a symbol."""
    return next(kind for kind, is_one in _RECOGNISED.items() if is_one(gene))


def recognise(genes: Iterable[str], where: str = "the matrix") -> GeneIds:
    """The one kind that all ids of a list are of.

    Raises:
        ValueError: if there is no id, or ids of several kinds, with examples of each.
    """
    examples: dict[GeneIds, list[str]] = {}
    for gene in genes:
        examples.setdefault(kind_of(gene), []).append(gene)
    if not examples:
        raise ValueError(f"{where} names no gene.")
    if len(examples) > 1:
        raise ValueError(
            f"{where} mixes gene identifiers: "
            + "; ".join(f"{len(found)} {kind} ({', '.join(found[:3])})" for kind, found in examples.items())
            + f". Remove the odd rows, or declare which kind to keep ({', '.join(KINDS)})."
        )
    return next(iter(examples))


#: what ids of genes that the panel cannot have look like, and what is to be done
_FOREIGN: dict[str, tuple[str, str]] = {
    r"ENSMUSG\d{11}.*|[A-Z][a-z]+[a-z0-9]*\d*": ("of mouse", "map them to their human orthologues, one to one, first"),
    r"ENS(RNO|DAR|BTA|SSC|GAL|MMU)G\d{11}.*": ("of another species", "map them to human orthologues first"),
    r"ENST\d{11}.*|NM_\d+.*|NR_\d+.*": ("of transcripts", "sum transcripts to genes first"),
    r"\d+(_[a-z]+)?_at|ILMN_\d+|A_\d+_P\d+": ("of microarray probes", "name a gene table, `genes` of the cohort"),
    r"[OPQ]\d[A-Z0-9]{3}\d|[A-NR-Z]\d[A-Z][A-Z0-9]{2}\d": ("of proteins", "name a gene table, `genes` of the cohort"),
    r"ENSG\d{11}.*": ("of Ensembl", "declare `gene_ids: ensembl`"),
    r"\d+(\.0)?": ("of Entrez", "declare `gene_ids: entrez`"),
}
#: MARCH1 and SEPT2 as a spreadsheet writes them
_DATE = re.compile(
    r"\d{4}-\d\d-\d\d.*|\d{1,2}-(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*|(Mar|Sep|Dec)[a-z]*-\d{1,2}",
    re.I,
)
#: what stands for a missing symbol
_NO_SYMBOL = {"", "NA", "N/A", "nan", "NaN", "null", "None", "---", "--", "-", "?", "."}
#: rows of counting programs and of spreadsheets that are no genes
_NO_GENE = re.compile(r"__\w+|N_(unmapped|multimapping|noFeature|ambiguous)|(grand )?total|sum", re.IGNORECASE)
#: an Ensembl id and what programs such as RSEM and GENCODE's tables join to it
_JOINED = re.compile(r"(ENSG(?:R\d{10}|\d{11})(?:\.\d+)?(?:_PAR_Y)?)[_|](?!PAR_Y$)(.+)")


def guess_ids(genes: Iterable[str], recognised: bool = False) -> str:
    """A sentence on ids that are none of the panel's, for messages on a panel that was not found.

    ``recognised``: whether they were taken for ids of Ensembl or Entrez.
    """
    names = [str(gene) for gene in genes][:2000]
    if recognised:
        return (
            " These were taken for ids of Ensembl or Entrez: either the matrix holds other genes, or Entrez ids are of "
            "another species, such as mouse, which map to human orthologues, or numbers of rows."
        )
    for pattern, (what, mend) in _FOREIGN.items():
        if names and sum(re.fullmatch(pattern, name) is not None for name in names) > 0.5 * len(names):
            return f" These look like ids {what}: {mend}."
    if names and sum(re.search(r"ENSG\d{11}", name, re.IGNORECASE) is not None for name in names) > 0.5 * len(names):
        return " These hold ids of Ensembl among other text, or in small letters: write them as ENSG00000141510."
    if names and sum(re.fullmatch(r"[a-z]{2}[a-z0-9-]*", name) is not None for name in names) > 0.5 * len(names):
        return " These are in small letters, and human symbols in capitals: write them so if they are human."
    return " Check that the cohort's columns entrez_id, ensembl_id and symbol hold what their names say."


def is_par_y(gene: str) -> bool:
    """Whether this is the Y copy of a pseudoautosomal gene, whose id would collide with the X copy's."""
    return _PAR_Y.fullmatch(gene) is not None


def without_version(gene: str) -> str:
    """``ENSG00000223972.5`` as ``ENSG00000223972``; releases give one gene different versions."""
    return gene.partition(".")[0]


def identify(
    genes: Sequence[str],
    symbols: Sequence[str] | None = None,
    kind: GeneIds | None = None,
    where: str = "the matrix",
    repeats: Literal["drop", "keep"] = "drop",
) -> tuple[np.ndarray, pd.DataFrame]:
    """The gene table of a source, and which of its rows it keeps.

    Dropped, each with a warning that names them: Y copies of pseudoautosomal genes; rows of another kind than
    the declared one; and ids that repeat, since nothing says which row is meant, unless they are to be combined.

    Args:
        genes: the ids as in the source.
        symbols: what the source calls the genes besides, in the same order.
        kind: what the ids are; None: found out, and a mixture is refused.
        where: the source's name in messages.
        repeats: whether ids that repeat are dropped, or kept for ``combine_repeats``.

    Returns:
        Positions (n_kept,) of the kept rows in ``genes``, in order, and their table: ``symbol``, ``entrez_id``,
        ``ensembl_id`` ("" where unknown) and ``is_landmark`` (false). Its index is the Ensembl id without version,
        or the id as in the source.

    Raises:
        ValueError: if no row is left, or the ids are a mixture.
    """
    no_gene = np.array([_NO_GENE.fullmatch(gene) is not None for gene in genes], dtype=bool)
    _report(pd.Series(genes, dtype=object)[no_gene], "rows that are no genes", where)
    joined = [_JOINED.fullmatch(gene) for gene in genes] if len(genes) and _JOINED.fullmatch(genes[-1]) else []
    parts = [found.groups() if found else (gene, "") for gene, found in zip(genes, joined, strict=False)]
    if parts:
        genes, symbols = [gene for gene, _ in parts], symbols or [symbol for _, symbol in parts]
    if kind is None:
        kind = recognise((gene for gene, none in zip(genes, no_gene, strict=True) if not none), where)
        odd = np.zeros(len(genes), dtype=bool)
    else:
        # a symbol may look like anything, Entrez ids and Ensembl ids among them
        odd = np.array([kind != "symbol" and kind_of(gene) != kind for gene in genes], dtype=bool)
    names = pd.Series(genes, dtype=object)
    par_y = np.array([kind == "ensembl" and is_par_y(gene) for gene in genes], dtype=bool)
    _report(names[odd & ~no_gene], f"rows that are not {kind}", where)
    _report(names[par_y & ~odd], "Y copies of pseudoautosomal genes", where)
    names = names[~(odd | par_y | no_gene)]
    if kind == "symbol":
        nameless = names.isin(_NO_SYMBOL)
        _report(names[nameless], "rows without a symbol", where)
        names = names[~nameless]
        if dates := [name for name in names if _DATE.fullmatch(name)]:
            logger.warning(
                "%d symbols of %s were turned into dates by a spreadsheet, such as %s (MARCH1 becomes 1-Mar, SEPT2 "
                "2-Sep): they match no gene. Make the matrix again without it.",
                len(dates),
                where,
                ", ".join(dates[:3]),
            )
    keys = names.map(without_version) if kind in ("ensembl", "entrez") else names
    if repeats == "drop":
        repeated = keys.duplicated(keep=False)
        _report(names[repeated], "rows whose identifiers repeat", where)
        keys = keys[~repeated]
    if keys.empty:
        raise ValueError(f"{where} has no gene of kind {kind} left; it begins with {list(genes[:3])}.")
    both = keys.str.extract(r"(.+?)(\|| \()(\d+)\)?") if kind == "symbol|entrez" else None
    columns = {"symbol": pd.Series("", keys.index), "entrez_id": "", "ensembl_id": ""}
    if both is not None:
        columns |= {"symbol": both[0].replace("?", ""), "entrez_id": both[2]}
    else:
        columns[{"ensembl": "ensembl_id", "entrez": "entrez_id"}.get(kind, "symbol")] = keys
    if symbols is not None:
        columns["symbol"] = pd.Series(symbols, dtype=object)[keys.index]
    table = pd.DataFrame(columns, dtype=object).assign(is_landmark=False)
    return keys.index.to_numpy(), table.set_index(pd.Index(keys, name="gene"))


def combine_repeats(
    values: np.ndarray, var: pd.DataFrame, how: Literal["sum", "max", "mean", "drop"], where: str = "the matrix"
) -> tuple[np.ndarray, pd.DataFrame]:
    """Linear values (n_samples, n_rows) with one column per gene id; a gene's first row keeps its place in the table.

    A sum is that of reads or transcripts of one gene in several rows; a missing value makes it missing.
    """
    repeated = var.index.duplicated(keep=False)
    if not repeated.any():
        return values, var
    names = var.index[repeated].unique()
    logger.warning(
        "%d gene ids of %s stand in several rows, %s: %s",
        len(names),
        where,
        "which were dropped" if how == "drop" else f"of which the {how} was taken",
        ", ".join(names[:20]),
    )
    if how == "drop":
        return np.ascontiguousarray(values[:, ~repeated]), var[~repeated]
    first = ~var.index.duplicated()
    result, table = np.ascontiguousarray(values[:, first]), var[first]
    rows = pd.Series(np.flatnonzero(repeated)).groupby(var.index[repeated]).agg(list)
    for name, places in rows.items():
        result[:, table.index.get_loc(name)] = getattr(values[:, places], how)(axis=1)
    return result, table


def _report(dropped: pd.Series, what: str, where: str) -> None:
    if len(dropped):
        more = ", ..." if len(dropped) > 20 else ""
        logger.warning("Dropped %d %s in %s: %s%s", len(dropped), what, where, ", ".join(dropped[:20]), more)
