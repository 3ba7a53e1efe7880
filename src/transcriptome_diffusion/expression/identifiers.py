"""Gene identifiers: what kind a list of them is, and the gene table that follows from it.

A source names its genes by Ensembl id (with or without a version), by Entrez id, by symbol, or by symbol and Entrez
id at once (``A1BG|1``, as in the TCGA matrices). The id stays the key, the symbol an attribute: symbols repeat.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from typing import get_args

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
    "entrez": re.compile(r"\d+").fullmatch,
    "symbol|entrez": re.compile(r"[^|]+\|\d+").fullmatch,
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
) -> tuple[np.ndarray, pd.DataFrame]:
    """The gene table of a source, and which of its rows it keeps.

    Dropped, each with a warning that names them: Y copies of pseudoautosomal genes; rows of another kind than
    the declared one; and ids that repeat, since nothing says which row is meant.

    Args:
        genes: the ids as in the source.
        symbols: what the source calls the genes besides, in the same order.
        kind: what the ids are; None: found out, and a mixture is refused.
        where: the source's name in messages.

    Returns:
        Positions (n_kept,) of the kept rows in ``genes``, in order, and their table: ``symbol``, ``entrez_id``,
        ``ensembl_id`` ("" where unknown) and ``is_landmark`` (false). Its index is the Ensembl id without version,
        or the id as in the source.

    Raises:
        ValueError: if no row is left, or the ids are a mixture.
    """
    if kind is None:
        kind = recognise(genes, where)
        odd = np.zeros(len(genes), dtype=bool)
    else:
        # a symbol may look like anything, Entrez ids and Ensembl ids among them
        odd = np.array([kind != "symbol" and kind_of(gene) != kind for gene in genes], dtype=bool)
    names = pd.Series(genes, dtype=object)
    par_y = np.array([kind == "ensembl" and is_par_y(gene) for gene in genes], dtype=bool)
    _report(names[odd], f"rows that are not {kind}", where)
    _report(names[par_y & ~odd], "Y copies of pseudoautosomal genes", where)
    names = names[~(odd | par_y)]
    keys = names.map(without_version) if kind == "ensembl" else names
    repeated = keys.duplicated(keep=False)
    _report(names[repeated], "rows whose identifiers repeat", where)
    keys = keys[~repeated]
    if keys.empty:
        raise ValueError(f"{where} has no gene of kind {kind} left; it begins with {list(genes[:3])}.")
    parts = keys.str.partition("|") if kind == "symbol|entrez" else None
    columns = {"symbol": pd.Series("", keys.index), "entrez_id": "", "ensembl_id": ""}
    if parts is not None:
        columns |= {"symbol": parts[0].replace("?", ""), "entrez_id": parts[2]}
    else:
        columns[{"ensembl": "ensembl_id", "entrez": "entrez_id"}.get(kind, "symbol")] = keys
    if symbols is not None:
        columns["symbol"] = pd.Series(symbols, dtype=object)[keys.index]
    table = pd.DataFrame(columns, dtype=object).assign(is_landmark=False)
    return keys.index.to_numpy(), table.set_index(pd.Index(keys, name="gene"))


def _report(dropped: pd.Series, what: str, where: str) -> None:
    if len(dropped):
        more = ", ..." if len(dropped) > 20 else ""
        logger.warning("Dropped %d %s in %s: %s%s", len(dropped), what, where, ", ".join(dropped[:20]), more)
