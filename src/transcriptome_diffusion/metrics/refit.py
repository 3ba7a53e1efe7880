"""What so many profiles allow: a known population of the cohort's structure, estimated from its own draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
import scipy.linalg

from transcriptome_diffusion.expression.covariance import ledoit_wolf
from transcriptome_diffusion.metrics.biology.differential import joint_labels
from transcriptome_diffusion.metrics.comparisons import Table, add_classifier_tests
from transcriptome_diffusion.metrics.copying import spread
from transcriptome_diffusion.metrics.correlation import within_class_correlation
from transcriptome_diffusion.metrics.distances import frechet
from transcriptome_diffusion.metrics.fidelity import least_profiles, memberships, summarise
from transcriptome_diffusion.metrics.options import EvaluationOptions
from transcriptome_diffusion.metrics.profile_set import ProfileSet
from transcriptome_diffusion.metrics.reference import SpaceReference
from transcriptome_diffusion.metrics.statistics import matched

#: populations that are drawn and estimated, and values (profiles x genes) of all of them together beyond which there
#: are fewer, but ``FEWEST``; boosted trees, which cost most, score the first
POPULATIONS, MOST_VALUES, FEWEST = 6, 5_000_000, 2


@dataclass(frozen=True, eq=False)
class HierarchicalGaussian:
    """A Gaussian per class and condition, with a mean of its own and one shrunken covariance for all.

    Attributes:
        means: by class, and by class and condition, (n_genes,) each.
        scale: deviation of each gene around these means, (n_genes,).
        factor: (rank, n_genes), with factorᵀ factor the sampled part of the covariance of the scaled genes.
        noise: standard deviation of its other part, which is the same for every gene.
    """

    means: dict[str, np.ndarray]
    scale: np.ndarray
    factor: np.ndarray
    noise: float

    @classmethod
    def fit(cls, profiles: ProfileSet) -> Self:
        """Means of groups, and the covariance around them, shrunk after Ledoit & Wolf (2004).

        Args:
            profiles: (n, n_genes), with labels and, if there are any, conditions.
        """
        groups = _groups(profiles)
        names, codes = np.unique(groups, return_inverse=True)
        means = _means(profiles.values, groups)
        residuals = profiles.values - np.stack([means[name] for name in names])[codes]
        n, genes = residuals.shape
        residuals *= np.sqrt(n / max(n - len(names), 1))  # unbiased variances
        scale = residuals.std(axis=0)
        residuals *= np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
        if n <= genes:
            shrinkage, variance = ledoit_wolf(residuals)
        else:
            from sklearn.covariance import ledoit_wolf_shrinkage

            shrinkage = ledoit_wolf_shrinkage(residuals, assume_centered=True)
            variance = float(np.square(residuals).mean())
            residuals = scipy.linalg.qr(residuals, mode="r", check_finite=False)[0][:genes]
        factor = (residuals * np.sqrt((1 - shrinkage) / n)).astype(np.float32)
        means |= _means(profiles.values, profiles.labels)
        return cls(means, scale.astype(np.float32), factor, float(np.sqrt(shrinkage * variance)))

    def draw(self, like: ProfileSet, rng: np.random.Generator) -> ProfileSet:
        """As many profiles with the labels and conditions of ``like``; a condition that a class lacks has its mean."""
        groups = [g if g in self.means else c for g, c in zip(_groups(like), like.labels, strict=True)]
        n, (rank, genes) = len(groups), self.factor.shape
        values = rng.standard_normal((n, rank), dtype=np.float32) @ self.factor
        values += np.float32(self.noise) * rng.standard_normal((n, genes), dtype=np.float32)
        values *= self.scale
        values += np.stack([self.means[group] for group in groups])
        return ProfileSet(values, like.labels, np.arange(n).astype(str), conditions=like.conditions)


def _groups(profiles: ProfileSet) -> np.ndarray:
    if profiles.conditions is None:
        return profiles.labels
    return joint_labels(profiles.labels, profiles.conditions)


def _means(values: np.ndarray, groups: np.ndarray) -> dict[str, np.ndarray]:
    return {str(name): values[groups == name].mean(axis=0, dtype=np.float64) for name in np.unique(groups)}


def score_refit(reference: SpaceReference, options: EvaluationOptions) -> pd.DataFrame:
    """The row ``refit``: what estimation from so many profiles costs, even where the right kind of model is known.

    A ``HierarchicalGaussian`` of the training donors is taken for the true population. As many profiles as there are
    training and held-out donors are drawn from it; the same model is fitted to the drawn training profiles; and what
    it generates is compared with the drawn held-out profiles. Without estimation error the metrics would have the
    values of the row ``expected``. Real populations are not Gaussian and are harder to estimate: a generator that does
    as well as this row is as good as the number of donors allows, one that does worse may still be improved.

    Returns:
        Rows as those of ``comparisons.compare``, against test: neighbour metrics, spread, Fréchet distance along axes,
        correlation within classes, a draw per population; and boosted trees on the first population.
    """
    table = Table()
    k = options.neighbours.landmarks
    truth = HierarchicalGaussian.fit(reference.train)
    for population in range(min(POPULATIONS, max(FEWEST, MOST_VALUES // reference.train.values.size))):
        rng = np.random.default_rng([options.seed, population])
        again = HierarchicalGaussian.fit(truth.draw(reference.train, rng))
        fresh, made = truth.draw(reference.test, rng), again.draw(reference.test, rng)
        ours, theirs = next(matched(fresh, made, fresh, 1, options.seed, options.most_profiles))
        n = len(ours.labels)
        pair, labelled = (ours.values, theirs.values), (ours.values, ours.labels, theirs.values, theirs.labels)
        if n >= least_profiles(k):
            table.add("test", summarise(memberships(*pair, k), k), n, population)
        found = {
            "spread": spread(*labelled),
            "frechet_pca": frechet(*map(reference.axes, pair)),
            "within_class_correlation": within_class_correlation(*labelled),
        }
        table.add("test", found, n, population)
        if not population:
            add_classifier_tests(table, ours, theirs, options, ("boosted",))
    return table.frame()
