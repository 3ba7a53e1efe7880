"""Co-expression modules of real training profiles, and whether they hold together elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage

from transcriptome_diffusion.expression.covariance import within_class_residuals
from transcriptome_diffusion.metrics.statistics import pearson
from transcriptome_diffusion.metrics.threads import one_thread_if_small

#: genes per block, in float64
BLOCK = 1024


@dataclass(frozen=True, eq=False)
class Modules:
    """Groups of genes that rise and fall together within classes.

    Attributes:
        genes: columns of the profiles that were clustered, (n_clustered,).
        members: per module its genes, as places in ``genes``; the largest module first.
        correlation: within-class correlations of the clustered genes, (n_clustered, n_clustered) float64.
    """

    genes: np.ndarray
    members: tuple[np.ndarray, ...]
    correlation: np.ndarray

    @cached_property
    def known(self) -> list[_Known]:
        """Of each module what its preservation is measured against."""
        parts = [self.correlation[np.ix_(genes, genes)] for genes in self.members]
        uppers = [np.triu_indices(len(part), 1) for part in parts]
        return [_Known(upper, part[upper], _hubs(part)) for upper, part in zip(uppers, parts, strict=True)]

    @classmethod
    def fit(
        cls,
        values: np.ndarray,
        labels: np.ndarray,
        max_genes: int = 1500,
        correlation: float = 0.4,
        smallest: int = 10,
    ) -> Self:
        """Cluster the genes that vary most within classes, by average linkage on 1 - r; nothing is random.

        Args:
            values: (n, n_genes) in log2 units, so that the variance says how much a gene varies; real train profiles.
            labels: one class per row; its mean is taken off.
            max_genes: how many genes are clustered; the correlation matrix and the tree grow with their square.
            correlation: mean r at which clusters are no longer joined.
            smallest: fewest genes of a module.

        Raises:
            ValueError: if no class has two profiles, or no module is found.
        """
        chosen = np.sort(np.argsort(-_within_variance(values, labels), kind="stable")[:max_genes])
        r = within_correlation(values[:, chosen], labels)
        np.fill_diagonal(r, 1.0)
        tree = linkage((1 - r)[np.triu_indices(len(r), 1)].clip(min=0), method="average")
        cluster = fcluster(tree, 1 - correlation, criterion="distance")
        names, sizes = np.unique(cluster, return_counts=True)
        order = np.argsort(-sizes, kind="stable")
        members = tuple(np.flatnonzero(cluster == names[i]) for i in order if sizes[i] >= smallest)
        if not members:
            raise ValueError(
                f"no module of {smallest} genes or more correlates at {correlation} on average among {len(chosen)} "
                f"genes of {len(values)} profiles; the largest has {sizes.max()}. Lower `correlation` or `smallest`."
            )
        return cls(chosen, members, r)


@one_thread_if_small
def within_correlation(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Pearson correlations of deviations from the class means, (n_genes, n_genes) float64; 0 for constant genes."""
    units = unit_residuals(values, labels)
    return units.T @ units


def unit_residuals(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Deviations from the class means with columns of length 1, (n, n_genes) float64; 0 for constant genes.

    Their products are the correlations of ``within_correlation``.
    """
    residuals = _residuals(values, labels)
    length = np.sqrt(np.einsum("ij,ij->j", residuals, residuals))
    residuals /= np.where(length > 1e-9 * max(length.max(initial=0), 1e-300), length, np.inf)
    return residuals


def _residuals(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    if len(np.unique(labels)) == len(labels):
        raise ValueError(f"{len(labels)} profiles of as many classes: within a class nothing varies.")
    return within_class_residuals(values, labels)


def _within_variance(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    starts = range(0, values.shape[1], BLOCK)
    return np.concatenate([np.square(_residuals(values[:, i : i + BLOCK], labels)).mean(axis=0) for i in starts])


def preservation(
    modules: Modules, values: np.ndarray, labels: np.ndarray, permutations: int = 50, seed: int = 0
) -> pd.DataFrame:
    """Whether modules of real training profiles are modules in another set of profiles, a row per module.

    Ingredients of Zsummary, Langfelder et al. (2011), doi:10.1371/journal.pcbi.1001057, computed on signed
    correlations within classes instead of on a thresholded network:

    - ``module_density``: mean correlation of two genes of the module, relative to that in train; 1 is as tight as
      there, and fresh donors stay a little below, since what was tight by chance was chosen; 0 for genes that have
      nothing to do with each other.
    - ``module_connectivity``: Pearson correlation, over the module's genes, of the sum of a gene's correlations with
      the others, here and in train (cor.kIM): whether the same genes are hubs. Best 1, null 0.
    - ``module_correlation``: Pearson correlation, over pairs of genes, of the correlations here and in train (cor.cor).
      Best 1, null 0.
    - ``module_z``: mean of the density's Z and the mean Z of the two others, each in standard deviations from its mean
      over random genes in the module's place; over 10 strong evidence, below 2 none. Grows with the module and with
      the number of profiles.

    Args:
        values, labels: as in ``Modules.fit``, with the same columns.
        permutations: random sets of genes per module; 0 leaves ``module_z`` out (it is NaN).

    Returns:
        Also ``module``, from 1 for the largest, and ``genes``, its size.

    Raises:
        ValueError: if a gene of the modules is no column of ``values``.
    """
    if values.shape[1] <= modules.genes.max():
        raise ValueError(
            f"the modules name column {modules.genes.max()}, the profiles have {values.shape[1]} genes; score the "
            "genes that the modules were fitted on, in the same order."
        )
    return preservation_of(modules, unit_residuals(values[:, modules.genes], labels), permutations, seed)


@one_thread_if_small
def preservation_of(modules: Modules, units: np.ndarray, permutations: int = 50, seed: int = 0) -> pd.DataFrame:
    """``preservation`` from ``unit_residuals`` of the clustered genes, (n, n_clustered)."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, (genes, there) in enumerate(zip(modules.members, modules.known, strict=True), 1):
        density, connectivity, correlation = found = _statistics(there, units[:, genes])
        random = np.array([
            _statistics(there, units[:, rng.choice(units.shape[1], len(genes), replace=False)])
            for _ in range(permutations)
        ])  # fmt: skip
        if len(random):
            z = (found - random.mean(axis=0)) / random.std(axis=0, ddof=1).clip(min=1e-12)
            summary = (z[0] + (z[1] + z[2]) / 2) / 2
        else:
            summary = np.nan
        rows.append((number, len(genes), density, connectivity, correlation, summary))
    columns = ["module", "genes", "module_density", "module_connectivity", "module_correlation", "module_z"]
    return pd.DataFrame(rows, columns=columns)


class _Known(NamedTuple):
    """Of a module in train: its pairs of genes, their correlations, and the sum of each gene's correlations."""

    upper: tuple[np.ndarray, ...]
    pairs: np.ndarray
    hubs: np.ndarray


def _statistics(there: _Known, units: np.ndarray) -> np.ndarray:
    """Density ratio, cor.kIM and cor.cor of a module's correlations in train and of those of ``units``, (3,)."""
    now = units.T @ units
    after = now[there.upper]
    return np.array([after.mean() / there.pairs.mean(), pearson(there.hubs, _hubs(now)), pearson(there.pairs, after)])


def _hubs(correlation: np.ndarray) -> np.ndarray:
    # the diagonal is the same for every gene that varies, and shifts all sums alike
    return correlation.sum(axis=1) - np.diag(correlation)
