"""The L1000 landmark panel: 978 genes from which the rest of the transcriptome can largely be inferred.

Subramanian et al. (2017), doi:10.1016/j.cell.2017.10.049. Genes are matched by Entrez id, since symbols are
renamed, and by Ensembl id or symbol where a source's Entrez ids do not serve.
"""

from __future__ import annotations

import logging
from importlib.resources import files
from pathlib import Path

import anndata as ad
import pandas as pd

from transcriptome_diffusion.expression.identifiers import guess_ids
from transcriptome_diffusion.expression.options import LandmarkOptions

logger = logging.getLogger(__name__)


#: columns of the panel's table
ID_COLUMNS = ["entrez_id", "symbol", "ensembl_id"]


def load_panel(path: str | Path | None = None) -> pd.DataFrame:
    """The panel: ``entrez_id``, ``symbol`` and ``ensembl_id`` (without version), all strings; L1000 has 978 rows.

    Args:
        path: a CSV file with these columns; None: the L1000 table that comes with the package.

    Raises:
        ValueError: if the file lacks one of the columns.
    """
    with (files(__package__) / "l1000_landmarks.csv" if path is None else Path(path)).open(encoding="utf-8") as file:
        panel = pd.read_csv(file, dtype=str, keep_default_na=False)
    if missing := [column for column in ID_COLUMNS if column not in panel]:
        raise ValueError(
            f"the landmark table {path} lacks {missing}; it has {list(panel)}. Name a table with the columns "
            f"{ID_COLUMNS} as `filepath` of `landmark_genes` in the catalog, or null for the L1000 panel."
        )
    return panel


def load_aliases() -> dict[str, list[str]]:
    """Former and present symbols of panel genes that HGNC renamed, by the panel's symbol: ``AARS`` is now ``AARS1``."""
    with (files(__package__) / "l1000_aliases.csv").open(encoding="utf-8") as file:
        table = pd.read_csv(file, dtype=str)
    return {str(symbol): names.tolist() for symbol, names in table.groupby("symbol")["alias"]}


def match_panel(var: pd.DataFrame, panel: pd.DataFrame) -> pd.DataFrame:
    """Find each panel gene in a gene table: by Entrez id, else by Ensembl id, else by symbol, of today or of before.

    An Ensembl id counts only where the source has no Entrez id, a symbol only where the source's Entrez id is
    absent or shared by several genes and so names none of them (RNAseqDB gives CALM1, CALM2 and CALM3 the id of
    CALM1, and HDGFRP3 none). Where several genes share the id that matches, the one with the panel's symbol is
    taken, else the first by name.

    Args:
        var: the gene table of a cohort, with ``symbol``, ``entrez_id`` and ``ensembl_id`` ("" where unknown).
        panel: as ``load_panel`` gives it.

    Returns:
        The panel with, per gene, ``found``; ``gene``, the name in ``var`` ("" if missing); ``matched_by``
        (``entrez_id``, ``ensembl_id``, ``symbol``, ``alias`` or ""); ``candidates``, how many genes share what matched;
        ``rule`` (``only``, ``symbol``, ``first`` or ""), by which one of them was taken.

    Raises:
        ValueError: if an id column is missing, or one gene matches two panel genes.
    """
    if absent := [column for column in ID_COLUMNS if column not in var]:
        raise ValueError(f"the gene table lacks {absent}; it has {list(var)}. Mend the cohort's reader.")
    genes = var[ID_COLUMNS].astype(str).sort_index().rename_axis(None)
    # ENSG00000228572.7_PAR_Y is the Y copy of an X gene and would collide with it once the version is cut
    genes = genes[~genes["ensembl_id"].str.endswith("_PAR_Y")]
    genes["ensembl_id"] = genes["ensembl_id"].str.partition(".")[0]
    nameless = genes["entrez_id"] == ""
    eligible = {
        "entrez_id": genes[~nameless],
        "ensembl_id": genes[nameless & (genes["ensembl_id"] != "")],
        "symbol": genes[nameless | genes["entrez_id"].duplicated(keep=False)],
    }
    eligible["alias"] = eligible["symbol"][~eligible["symbol"]["symbol"].isin(panel["symbol"])]
    aliases = load_aliases()
    chosen: dict[object, tuple[str, str, int, str]] = {}
    for kind, rows in eligible.items():
        taken = [gene for gene, *_ in chosen.values()]
        column = "symbol" if kind == "alias" else kind
        groups = rows[~rows.index.isin(taken)].groupby(column).groups
        for place, key, symbol in zip(panel.index, panel[column], panel["symbol"], strict=True):
            names = aliases.get(symbol, []) if kind == "alias" else [key]
            candidates = next((groups[name] for name in names if name in groups), None)
            if place in chosen or candidates is None:
                continue
            named = candidates[genes.loc[candidates, "symbol"] == symbol]
            rule = "only" if len(candidates) == 1 else "symbol" if len(named) else "first"
            chosen[place] = ((named if len(named) else candidates)[0], kind, len(candidates), rule)
    match = pd.DataFrame(
        [chosen.get(place, ("", "", 0, "")) for place in panel.index],
        columns=["gene", "matched_by", "candidates", "rule"],
        index=panel.index,
    )
    match.insert(0, "found", match["gene"] != "")
    twice = match.loc[match["found"] & match["gene"].duplicated(), "gene"]
    if len(twice):
        raise ValueError(
            f"one gene matches two panel genes: {twice.tolist()[:3]}; mend the ids of the panel or of the cohort."
        )
    found = match[match["found"]]
    counts = ", ".join(f"{n} by {kind}" for kind, n in found["matched_by"].value_counts(sort=False).items())
    by_name = found["matched_by"].isin(["symbol", "alias"])
    unsure = found.loc[(found["candidates"] > 1) | by_name, "gene"].tolist()
    logger.info(
        "Found %d of %d landmark genes (%s); missing: %s; matched by symbol or by a shared id: %s",
        len(found),
        len(panel),
        counts,
        ", ".join(panel.loc[~match["found"], "symbol"]) or "none",
        ", ".join(unsure) or "none",
    )
    return pd.concat([panel, match], axis=1)


def select_landmarks(profiles: ad.AnnData, gene_panel: pd.DataFrame, options: LandmarkOptions) -> ad.AnnData:
    """Keep the landmark genes that were found, in the order of the panel.

    Args:
        profiles: (n_samples, n_genes) in any unit.
        gene_panel: the table of ``match_panel`` for these genes.
        options: ``min_coverage``, the share of the panel that has to be found.

    Returns:
        New (n_samples, n_found) profiles in the same unit, ``var["is_landmark"]`` true throughout.

    Raises:
        ValueError: if less than ``min_coverage`` of the panel was found, or a gene of the table is not in the profiles.
    """
    found, missing = gene_panel[gene_panel["found"]], gene_panel.loc[~gene_panel["found"], "symbol"].tolist()
    if len(found) < options.min_coverage * len(gene_panel):
        raise ValueError(
            f"{len(found)} of {len(gene_panel)} landmark genes are measured, below min_coverage="
            f"{options.min_coverage}; missing: {', '.join(missing[:5])} and others. The cohort's genes begin with "
            f"{list(profiles.var_names[:3])}, the panel with {gene_panel[ID_COLUMNS].iloc[0].to_list()}."
            f"{guess_ids(profiles.var_names, bool((profiles.var[['ensembl_id', 'entrez_id']] != '').any(axis=None)))}"
        )
    absent = found.loc[~found["gene"].isin(profiles.var_names), "gene"].tolist()
    if absent:
        raise ValueError(
            f"the profiles lack {len(absent)} genes of the panel table, for instance {absent[:3]}; "
            "match the panel against the genes of these profiles."
        )
    selected = profiles[:, found["gene"].to_numpy()].copy()
    selected.var["is_landmark"] = True
    return selected
