"""A baseline: a kernel density per class, which is a smoothed bootstrap of its training profiles."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

import anndata as ad
import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from transcriptome_diffusion.expression.profiles import dense
from transcriptome_diffusion.generators.classes import ClassGenerator
from transcriptome_diffusion.generators.options import ClassKDEOptions

logger = logging.getLogger(__name__)


def kernel_log_densities(
    points: np.ndarray,
    centres: np.ndarray,
    basis: np.ndarray,
    variance: float,
    bandwidths: Sequence[float],
) -> np.ndarray:
    """Log density at ``points`` of a kernel density estimate, per bandwidth, (n_bandwidths, n_points).

    The kernels are Gaussians around ``centres`` with covariance h² (BᵀB + variance I) for ``basis`` B. In
    the principal axes of B this takes no matrix of genes by genes.

    Args:
        points, centres, basis: (n, n_genes) each; the centres must lie in the span of B.
        variance: of the isotropic part, above 0.
        bandwidths: the h, above 0.
    """
    _, singular, axes = np.linalg.svd(basis, full_matrices=False)
    deviations = np.sqrt(singular**2 + variance)
    inside = points @ axes.T
    outside = (np.square(points).sum(axis=1) - np.square(inside).sum(axis=1)).clip(min=0)
    squared = cdist(inside / deviations, centres @ axes.T / deviations, "sqeuclidean")
    squared += outside[:, None] / variance
    genes = points.shape[1]
    log_volume = np.log(deviations).sum() + (genes - len(deviations)) / 2 * np.log(variance)
    constant = np.log(len(centres)) + log_volume + genes / 2 * np.log(2 * np.pi)
    return np.array([logsumexp(-squared / (2 * h**2), axis=1) - genes * np.log(h) for h in bandwidths]) - constant


@dataclass(eq=False)
class ClassKDE(ClassGenerator):
    """A kernel density per combination of conditions; its kernels have the class's Ledoit-Wolf covariance.

    A sample is a random training profile x of the class, blurred, and pulled back towards the class mean,

        mean + (x - mean + h u) / sqrt(1 + h²),    u a draw from the within-class covariance,

    so that mean and covariance within the class stay those of the training profiles, up to the shrinkage
    (Silverman 1986, Density Estimation, section 6.4.1). h = 0 is the memoriser, a large h the class
    Gaussian. Of ``bandwidths``, that is taken under which the plain estimate (without the pull) gives the
    validation profiles the highest mean log density.
    """

    name: ClassVar[str] = "class_kde"

    bandwidth: float = field(init=False)

    @classmethod
    def fit_model(cls, train: ad.AnnData, validation: ad.AnnData, options: ClassKDEOptions) -> Self:
        model = super().fit_model(train, validation, options)
        densities = dict(zip(options.bandwidths, model._log_densities(validation, options.bandwidths), strict=True))
        model.bandwidth = max(densities, key=lambda h: densities[h])
        if len(densities) > 1 and model.bandwidth in (min(densities), max(densities)):
            logger.warning(
                "class_kde: the best bandwidth, %g, is at the end of `bandwidths`; extend the list.",
                model.bandwidth,
            )
        model.record |= {
            "bandwidth": model.bandwidth,
            "validation_log_density_per_gene": [[h, density] for h, density in densities.items()],
        }
        return model

    def _log_densities(self, profiles: ad.AnnData, bandwidths: Sequence[float]) -> list[float]:
        """Mean over profiles and genes of the log density in scaled units, per bandwidth.

        Genes that are constant within every class have no density and are left out, as are profiles whose combination
        of conditions had no training profile.

        Raises:
            ValueError: if no profile is left.
        """
        codes = self.conditions.to_codes(profiles.obs)
        known = self.classes.known(codes, self.conditions)
        if not known.any():
            raise ValueError(
                f"class_kde chooses its bandwidth on validation profiles, and none of {len(codes)} has a combination "
                f"of {list(self.conditions.names)} that training profiles have. Condition on fewer columns."
            )
        index = self.classes.find(codes[known], self.conditions)
        varies = self.scale > 0
        points = ((dense(profiles)[known] - self.means[index])[:, varies] / self.scale[varies]).astype(np.float64)
        residuals = self.residuals[:, varies].astype(np.float64)
        total = np.zeros(len(bandwidths))
        for c in np.unique(index):
            of_factors, of_noise = self.weights[c].astype(np.float64)
            total += kernel_log_densities(
                points[index == c],
                residuals[slice(*self.classes.rows(c))],
                residuals[slice(*self.rows[c])] * of_factors,
                # a class whose few profiles fill its space needs no isotropic part, a density does
                max(of_noise**2, 1e-6),
                bandwidths,
            ).sum(axis=1)
        return (total / points.size).tolist()

    def sample_codes(self, codes: np.ndarray, seed: int, batch_size: int) -> np.ndarray:
        index = self.classes.find(codes, self.conditions)
        rng = np.random.default_rng(seed)
        picked = self.classes.pick(index, rng)
        drawn = np.empty((len(codes), len(self.scale)), dtype=np.float32)
        for start in range(0, len(codes), batch_size):
            batch = slice(start, start + batch_size)
            blurred = self.residuals[picked[batch]] + self.bandwidth * self.deviations(index[batch], rng)
            drawn[batch] = self.means[index[batch]] + self.scale * blurred / np.sqrt(1 + self.bandwidth**2)
        return drawn

    def state(self) -> dict[str, np.ndarray]:
        return super().state() | {"bandwidth": np.array([self.bandwidth])}

    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        super().restore(tensors)
        self.bandwidth = float(tensors["bandwidth"][0])
