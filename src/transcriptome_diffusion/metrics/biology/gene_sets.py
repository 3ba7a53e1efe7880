"""Scores of gene sets the user supplies, and whether their means, spreads and shapes are those of real profiles."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from transcriptome_diffusion.metrics.statistics import wasserstein

logger = logging.getLogger(__name__)

#: fewest profiles of a class on either side
SMALLEST = 3


def read_gmt(path: Path) -> dict[str, tuple[str, ...]]:
    """Gene sets of a GMT file: on every line a name, a description and the genes, separated by tabs.

    The format of GSEA and MSigDB, Subramanian et al. (2005), doi:10.1073/pnas.0506580102. A gene that a line repeats
    counts once; empty lines and empty fields at a line's end are left out.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is no text, a line has fewer than three fields, a name repeats, or there is no set at all.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no gene sets at {path}; expected a GMT file, or null for none.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text ({error.reason} at byte {error.start}); unpack it first.") from error
    sets: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, *rest = (field.strip() for field in line.split("\t"))
        genes = tuple(dict.fromkeys(gene for gene in rest[1:] if gene))
        if not name or not genes:
            raise ValueError(
                f"{path}, line {number}: expected a name, a description and genes separated by tabs, found "
                f"{line[:60]!r}."
            )
        if name in sets:
            raise ValueError(f"{path}, line {number}: the set {name!r} stands there twice.")
        sets[name] = genes
    if not sets:
        raise ValueError(f"{path} holds no gene set; expected a name, a description and genes on every line.")
    return sets


def match_gene_sets(
    sets: Mapping[str, Sequence[str]], genes: Sequence[str], smallest: int = 10
) -> dict[str, np.ndarray]:
    """The columns of each set's genes among ``genes``, of sets with ``smallest`` or more of them.

    Args:
        sets: as ``read_gmt`` returns them.
        genes: name of each column, of the kind the sets use (symbols or Entrez ids); of a repeated name the first
            column counts.

    Raises:
        ValueError: if no set is left.
    """
    column: dict[str, int] = {}
    for place, gene in enumerate(genes):
        column.setdefault(str(gene), place)
    found = {name: np.array([column[g] for g in members if g in column], int) for name, members in sets.items()}
    kept = {name: columns for name, columns in found.items() if len(columns) >= smallest}
    if not kept:
        first = next(iter(sets))
        raise ValueError(
            f"none of {len(sets)} gene sets has {smallest} genes of this cohort; {first!r} begins with "
            f"{list(sets[first][:3])}, the cohort's genes with {list(genes[:3])}. Take a GMT file with the same kind "
            "of names, or lower the smallest size."
        )
    if len(kept) < len(sets):
        logger.info("%d of %d gene sets have %d genes or more of this cohort", len(kept), len(sets), smallest)
    return kept


def score_gene_sets(standardised: np.ndarray, sets: Mapping[str, np.ndarray]) -> np.ndarray:
    """Single-profile scores: the sum of a set's standardised genes over √(its size), (n, n_sets) float64.

    The combined z-score, Lee et al. (2008), doi:10.1371/journal.pcbi.1000217: with independent genes of unit variance
    it has variance 1, and more the more the set's genes rise together.

    Args:
        standardised: (n, n_genes), gene-wise standardised with the training profiles' means and deviations.
        sets: as ``match_gene_sets`` returns them.
    """
    columns = [standardised[:, genes].sum(axis=1, dtype=np.float64) / np.sqrt(len(genes)) for genes in sets.values()]
    return np.stack(columns, axis=1)


def gene_set_agreement(
    reference: np.ndarray,
    reference_labels: np.ndarray,
    candidate: np.ndarray,
    candidate_labels: np.ndarray,
    names: Sequence[str],
) -> pd.DataFrame:
    """Whether scores of gene sets are distributed as among real profiles, a row per set.

    - ``gene_set_means``: Pearson correlation over classes of the mean score; best 1, null 0. Noise counts, as in all
      three: compare with ``real``.
    - ``gene_set_spread``: variance of the score within classes relative to the reference; best and null 1. Below 1 the
      genes of a set no longer rise together, or all profiles are too alike.
    - ``gene_set_distance``: Wasserstein-1 distance of the scores within a class, in the reference's standard
      deviations within classes, mean over classes; best 0, above 0 for finite samples.

    Args:
        reference, candidate: scores (n, n_sets) of ``score_gene_sets``.
        names: of the sets.

    Returns:
        Also ``gene_set``, and ``note``, why a number is missing. Classes with fewer than 3 profiles in either set of
        profiles are left out.

    Raises:
        ValueError: if no class has 3 profiles in both, or the scores are not one per name.
    """
    if reference.shape[1] != len(names) or candidate.shape[1] != len(names):
        raise ValueError(f"expected scores of {len(names)} sets, found {reference.shape} and {candidate.shape}.")
    means, squares, distances, weights = [], [], [], []
    for label in np.unique(reference_labels):
        ours, theirs = reference[reference_labels == label], candidate[candidate_labels == label]
        if min(len(ours), len(theirs)) < SMALLEST:
            continue
        means.append((ours.mean(axis=0), theirs.mean(axis=0)))
        squares.append((ours.var(axis=0, ddof=1), theirs.var(axis=0, ddof=1)))
        distances.append(wasserstein(ours, theirs))
        weights.append(len(ours) - 1)
    if not weights:
        raise ValueError(f"no class has {SMALLEST} profiles in both sets; gene-set scores cannot be compared.")
    within_ours, within_theirs = np.average(np.array(squares), axis=0, weights=weights)
    ours, theirs = np.array(means).swapaxes(0, 1)
    ours, theirs = ours - ours.mean(axis=0), theirs - theirs.mean(axis=0)
    lengths = np.sqrt(np.square(ours).sum(axis=0) * np.square(theirs).sum(axis=0))
    few = len(weights) < 3
    varies = within_ours > 1e-20 * np.square(reference).mean(axis=0)  # constant but for rounding
    with np.errstate(divide="ignore", invalid="ignore"):
        table = pd.DataFrame(
            {
                "gene_set": list(names),
                "gene_set_means": np.nan if few else np.where(lengths > 0, (ours * theirs).sum(axis=0) / lengths, 0.0),
                "gene_set_spread": np.where(varies, within_theirs / within_ours, np.nan),
                "gene_set_distance": np.where(varies, np.mean(distances, axis=0) / np.sqrt(within_ours), np.nan),
            }
        )
    reasons = [f"only {len(weights)} classes" if few else "", "constant within classes"]
    table["note"] = np.where(varies, reasons[0], "; ".join(filter(None, reasons)))
    return table
