"""What an analyst finds in a set of profiles, and whether synthetic profiles of the same number lead to the same.

Edges of a co-expression network, genes that differ between tissues, and genes that a classifier of tissues relies on:
the questions of Chen et al. (2024), doi:10.56553/popets-2024-0062. All three depend on the number of profiles, so both
sets have to have the same number of every tissue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from transcriptome_diffusion.metrics.biology import summarise
from transcriptome_diffusion.metrics.biology.coexpression import unit_residuals
from transcriptome_diffusion.metrics.biology.differential import (
    FEWEST_GENES,
    Differences,
    Groups,
    differential_expression,
    largest,
    one_against_others,
)
from transcriptome_diffusion.metrics.statistics import pearson
from transcriptome_diffusion.metrics.threads import one_thread_if_small

#: absolute correlations beyond which two genes are joined, in percent, as in the names of the metrics
CUTOFFS = (50, 30)
#: fewest edges of which a share is computed, and genes of the network: of more, those that vary most
FEWEST_EDGES, MOST_GENES = 10, 1500
#: genes with the highest attribution that are compared
TOP = 50


@dataclass(frozen=True, eq=False)
class Findings:
    """Summary of a set of profiles.

    Attributes:
        correlation: of the genes of the network within classes, (n_chosen, n_chosen) float32, 0 on the diagonal; None
            if no class has two profiles.
        groups: means and variances of the classes in log2 units.
        attributions: of every gene by class, ``attributions``; None with one class.
    """

    correlation: np.ndarray | None
    groups: Groups
    attributions: Mapping[str, np.ndarray] | None

    @classmethod
    def of(cls, values: np.ndarray, labels: np.ndarray, scale: np.ndarray) -> Self:
        """From standardised values (n, n_genes), classes (n,), and the genes' scale in log2 units (n_genes,)."""
        chosen = np.sort(np.argsort(-scale, kind="stable")[:MOST_GENES])
        n_classes, correlation = len(np.unique(labels)), None
        if n_classes < len(labels):
            units = unit_residuals(values[:, chosen], labels).astype(np.float32)
            correlation = units.T @ units
            np.fill_diagonal(correlation, 0)
        return cls(
            correlation,
            Groups.of(values, labels).rescaled(scale),
            attributions(values, labels) if n_classes > 1 else None,
        )


def compare_findings(reference: Findings, candidate: Findings) -> dict[str, float]:
    """``edge_agreement``, ``significance_agreement`` between classes, and ``attribution_overlap``; NaN if undefined."""
    found = dict.fromkeys(("q_correlation", "significant_ratio", "significant_overlap", "attribution_overlap"), np.nan)
    for cutoff in CUTOFFS:
        found |= {f"edges_found_{cutoff}": np.nan, f"edges_false_{cutoff}": np.nan}
    if reference.correlation is not None and candidate.correlation is not None:
        found |= edge_agreement(reference.correlation, candidate.correlation)
    sides = reference.groups, candidate.groups
    try:
        contrasts = one_against_others(*sides)
    except ValueError:  # fewer than two classes with enough profiles
        pass
    else:
        ours, theirs = (differential_expression(side, contrasts) for side in sides)
        found |= summarise(significance_agreement(ours, theirs))
    if reference.attributions is not None and candidate.attributions is not None:
        shares = attribution_overlap(reference.attributions, candidate.attributions)
        found["attribution_overlap"] = float(np.mean([*shares.values()])) if shares else np.nan
    return found


# ------------------------------------------------------------------------------------- co-expression network
def edge_agreement(real: np.ndarray, synthetic: np.ndarray) -> dict[str, float]:
    r"""How far two networks have the same edges; two genes are joined where |r| exceeds a cutoff, .5 or .3.

    Correlations are those within classes: over all tissues they mostly say which tissue expresses which genes.

    - ``edges_found_50``, ``edges_found_30``: share of the real edges that the synthetic profiles have with the same
      sign; best 1.
    - ``edges_false_50``, ``edges_false_30``: share of the synthetic edges that the real profiles do not have; best 0.

    Chance makes and hides edges: the row ``real`` is the value to compare with. NaN with fewer than ``FEWEST_EDGES``
    edges.

    Args:
        real, synthetic: correlations, (n_genes, n_genes), symmetric; 0 on the diagonal and for constant genes.
    """
    found = {}
    for cutoff in CUTOFFS:
        true, made = (
            (side > cutoff / 100).view(np.int8) - (side < -cutoff / 100).view(np.int8) for side in (real, synthetic)
        )
        both = np.count_nonzero(true * made > 0)
        n_true, n_made = np.count_nonzero(true), np.count_nonzero(made)  # every edge twice
        found[f"edges_found_{cutoff}"] = both / n_true if n_true >= 2 * FEWEST_EDGES else np.nan
        found[f"edges_false_{cutoff}"] = 1 - both / n_made if n_made >= 2 * FEWEST_EDGES else np.nan
    return found


# -------------------------------------------------------------------------------------- differential expression
def significance_agreement(reference: Differences, candidate: Differences, fdr: float = 0.05) -> pd.DataFrame:
    """Whether the same genes are significant, a row per contrast.

    - ``q_correlation``: Spearman correlation over genes of the adjusted p-values (Benjamini and Hochberg); best 1,
      null 0 for unrelated differences.
    - ``significant_ratio``: number of significant genes (q below ``fdr``) in the candidate over that in the reference;
      best 1, above 1 if the candidate varies too little within its groups.
    - ``significant_overlap``: Jaccard index of the two sets of significant genes; best 1.

    The number of profiles decides what is significant: both sides should have groups of the same sizes. Noise counts in
    all three, so compare with the row ``real``.

    Returns:
        Also ``_weight`` columns, with which ``summarise`` averages: so the ratio is that of all significant genes, and
        the overlap that of all sets together. The last two are NaN where the reference has fewer than ``FEWEST_GENES``
        significant genes.
    """
    ranks = [rankdata(side.q, axis=1) for side in (reference, candidate)]
    rows = []
    for i, contrast in enumerate(reference.contrasts):
        ours, theirs = reference.q[i] < fdr, candidate.q[i] < fdr
        n, either = int(ours.sum()), int((ours | theirs).sum())
        enough = n >= FEWEST_GENES
        rows.append(
            {
                "contrast": contrast,
                "q_correlation": pearson(ranks[0][i], ranks[1][i]),
                "significant_ratio": float(theirs.sum() / n) if enough else np.nan,
                "significant_overlap": float((ours & theirs).sum() / either) if enough else np.nan,
                "significant_ratio_weight": float(n),
                "significant_overlap_weight": float(either),
            }
        )
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------------------ attribution
@one_thread_if_small
def attributions(values: np.ndarray, labels: np.ndarray, c: float = 1.0, tol: float = 1e-3) -> dict[str, np.ndarray]:
    """What each gene adds to the score of each class in a classifier, mean over the class's profiles, (n_genes,).

    Gradient times input of a multinomial logistic regression with an L2 penalty: the coefficient of a gene, less its
    mean over classes, times the standardised value. Of fewer profiles than genes, the regression is fitted on
    coordinates in the span of the profiles, in which its coefficients lie.

    Args:
        values: (n, n_genes) standardised. labels: (n,), at least two classes.
        c: inverse of the L2 penalty. tol: of the fit; both as in scikit-learn.

    Raises:
        ValueError: if there are fewer than two classes.
    """
    from sklearn.linear_model import LogisticRegression

    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"a classifier needs two classes or more, found {classes.tolist()}.")
    inputs, back = values, None
    if len(values) < values.shape[1]:
        squares, vectors = np.linalg.eigh(values.astype(np.float64) @ values.T)
        kept = squares > 1e-9 * squares[-1]
        vectors, lengths = vectors[:, kept], np.sqrt(squares[kept])
        inputs, back = vectors * lengths, (vectors / lengths).T @ values
    fitted = LogisticRegression(C=c, tol=tol, max_iter=1000).fit(inputs, codes)
    # of two classes scikit-learn gives the difference
    weights = fitted.coef_ if len(classes) > 2 else np.stack([-fitted.coef_[0], fitted.coef_[0]]) / 2
    by_gene = weights - weights.mean(axis=0)
    if back is not None:
        by_gene = by_gene @ back
    return {str(name): by_gene[i] * values[codes == i].mean(axis=0) for i, name in enumerate(classes)}


def attribution_overlap(
    reference: Mapping[str, np.ndarray], candidate: Mapping[str, np.ndarray], top: int = TOP
) -> dict[str, float]:
    """Share of the ``top`` genes with the highest attribution that two classifiers have in common, by class.

    Best 1, by chance ``top`` / n_genes. Classifiers of two sets of real donors share about half: compare with ``real``.
    Classes that one of the two lacks, and genes fewer than twice ``top``, have none.
    """
    found = {}
    for name in [name for name in reference if name in candidate and len(reference[name]) >= 2 * top]:
        best, other = (largest(side[name], top) for side in (reference, candidate))
        found[name] = len(np.intersect1d(best, other)) / top
    return found
