"""What a reconstruction leaves unexplained, as a distribution that can be drawn from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
from scipy.sparse import csr_array

from transcriptome_diffusion.expression.covariance import leading_axes, ledoit_wolf
from transcriptome_diffusion.reconstruction.options import ResidualOptions
from transcriptome_diffusion.reconstruction.ridge import Spectrum, hat_factor, leave_donors_out

logger = logging.getLogger(__name__)

#: candidates for the ridge penalty of the leverage, in units of the landmarks' mean eigenvalue
PENALTIES = [10 ** (e / 2) for e in range(-4, 3)]
#: residuals that a draw mixes
MIXED = 3
#: principal axes of the residuals whose genes make up the blocks, each with those of either sign; and profiles per axis
AXES = 100
PROFILES_PER_AXIS = 5
#: a mean square below this is zero
TINY = 1e-12


@dataclass(frozen=True, eq=False)
class ResidualModel:
    """Residuals of held-out donors: large where landmarks are unusual, and correlated as in real profiles.

    A residual is ``exp(log_scale / 2) * gene_scale * (sqrt(1 - s) mixture + sqrt(s) mixture of its block)``:

    - The log scale of a profile is the logarithm of its mean squared residual over all targets. It differs between
      profiles by a factor of ten, and the landmarks predict nearly all of that: it is linear in the logarithm of
      the profile's leverage. Leverage here is the mean square of what ridge regression of the training landmarks
      *on themselves* leaves of the profile (the predictive variance of Bayesian regression has the same form).
    - A mixture is ``sum_j w_j r_j`` over the residuals r_j of ``MIXED`` held-out profiles, drawn at random, divided by
      both scales and centred. The weights w are uniform on the simplex (Rubin's Bayesian bootstrap 1981,
      doi:10.1214/aos/1176345338) before they are scaled to a sum of squares of 1, so that the covariance is that of the
      profiles. A mixture of few residuals has the shapes of real ones; classifiers recognise normal draws of the same
      covariance sooner.
    - The first mixture is one of whole residuals. For the second, targets are divided into blocks that vary together
      (``blocks_of``), and every block draws profiles and weights of its own. The covariance is that of the residuals,
      shrunk by s towards its blocks: correlations within a block stay as they are, those across are uncertain and are
      multiplied by 1 - s. s is a share of what Ledoit and Wolf's formula asks for.

    Attributes:
        leverage: (n_landmarks, n_landmarks), maps standardised landmarks to what ridge leaves of them.
        line: intercept and slope of the log scale on log leverage, and the lowest and highest log leverage seen.
        gene_scale: (n_targets,), root mean square of the residuals over their profiles' scales.
        samples: (n_samples, n_targets) float16, residuals divided by both scales, centred; block after block.
        blocks: (n_targets,) int16, the block of each target, from 0.
        weights: (2,), sqrt(1 - s) and sqrt(s).
    """

    leverage: np.ndarray
    line: np.ndarray
    gene_scale: np.ndarray
    samples: np.ndarray
    blocks: np.ndarray
    weights: np.ndarray

    @classmethod
    def fit(
        cls,
        spectrum: Spectrum,
        donors: np.ndarray,
        rows: np.ndarray,
        held_out: np.ndarray,
        residuals: np.ndarray,
        options: ResidualOptions,
    ) -> tuple[Self, dict[str, Any]] | None:
        """Fit on held-out residuals, and report how well it went; None where there are fewer than ``MIXED``.

        Args:
            spectrum: of the standardised landmarks of all training profiles. donors: (n,), theirs.
            rows: (k,), training profiles whose residuals are known, each from a model that did not see its donor.
            held_out: (m, n_landmarks), landmarks of other donors, standardised alike.
            residuals: (k + m, n_targets) float32 of both, standardised as the targets; overwritten.
        """
        if (n := len(residuals)) < MIXED:
            logger.warning("reconstruction: %d held-out profiles are too few to learn residual noise.", n)
            return None
        log_scale = np.log(np.einsum("ij,ij->i", residuals, residuals) / residuals.shape[1] + TINY)
        leverage, log_leverage = _fit_leverage(spectrum, donors, rows, held_out, log_scale)
        slope, intercept = _fit_line(log_leverage, log_scale)
        predicted = intercept + slope * log_leverage

        residuals /= np.exp(predicted / 2)[:, None].astype(np.float32)
        residuals -= residuals.mean(axis=0)
        gene_scale = np.sqrt(np.einsum("ij,ij->j", residuals, residuals) / n)
        residuals /= np.where(gene_scale > 0, gene_scale, 1)
        shrinkage = options.shrinkage * ledoit_wolf(residuals)[0]
        blocks = blocks_of(residuals)
        model = cls(
            leverage=leverage.astype(np.float32),
            line=np.array([intercept, slope, log_leverage.min(), log_leverage.max()]),
            gene_scale=gene_scale,
            samples=residuals.astype(np.float16)[:, np.argsort(blocks, kind="stable")],
            blocks=blocks,
            weights=np.sqrt([1 - shrinkage, shrinkage]).astype(np.float32),
        )
        record = {
            "profiles": n,
            "mean_square": float(np.exp(log_scale).mean()),
            "log_scale_sd": float(log_scale.std()),
            "log_scale_sd_unexplained": float((log_scale - predicted).std()),
            "shrinkage": shrinkage,
        }
        return model, record

    def draw(self, landmarks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One residual per profile, (n, n_targets) float32, for standardised landmarks (n, n_landmarks).

        Every profile uses up the same number of random numbers, so that the size of batches does not change the draws.
        """
        intercept, slope, lowest, highest = self.line
        log_leverage = np.log(np.square(landmarks @ self.leverage).mean(axis=1, dtype=np.float64) + TINY)
        log_scale = intercept + slope * log_leverage.clip(lowest, highest)
        order = np.argsort(self.blocks, kind="stable")
        ends = np.cumsum(np.bincount(self.blocks)).tolist()
        (n_samples, targets), n = self.samples.shape, len(landmarks)
        uniform = rng.random((n, 1 + len(ends), 2, MIXED))
        rows = (n_samples * uniform[:, :, 0]).astype(np.int32)
        weights = -np.log1p(-uniform[:, :, 1])
        weights /= np.linalg.norm(weights, axis=2, keepdims=True)
        weights *= np.where(np.arange(1 + len(ends))[:, None] == 0, *self.weights)
        mixed, steps = np.empty((n, targets), dtype=np.float32), np.arange(n + 1) * 2 * MIXED
        for block, (start, end) in enumerate(pairwise([0, *ends]), 1):
            both = weights[:, [0, block]].astype(np.float32).ravel(), rows[:, [0, block]].ravel(), steps
            mixed[:, start:end] = csr_array(both, (n, n_samples)) @ self.samples[:, start:end].astype(np.float32)
        drawn = mixed.take(np.argsort(order), axis=1)
        drawn *= self.gene_scale
        drawn *= np.exp(log_scale / 2)[:, None].astype(np.float32)
        return drawn

    def state(self) -> dict[str, np.ndarray]:
        """Every array, named as the attribute."""
        return dict(vars(self))


def blocks_of(residuals: np.ndarray) -> np.ndarray:
    """Block of each target, (n_targets,) int16 from 0, for centred residuals (n, n_targets).

    Targets belong together that load most on the same principal axis, with the same sign.
    """
    squares, axes = leading_axes(residuals, max(min(AXES, len(residuals) // PROFILES_PER_AXIS), 1), iterations=1)
    if not len(squares):  # residuals that are all 0
        return np.zeros(residuals.shape[1], dtype=np.int16)
    loadings = axes * np.sqrt(squares)
    axis = np.abs(loadings).argmax(axis=1)
    positive = np.take_along_axis(loadings, axis[:, None], axis=1)[:, 0] > 0
    return np.unique(2 * axis + positive, return_inverse=True)[1].astype(np.int16)


def spread_evenly(count: int, most: int) -> np.ndarray:
    """At most ``most`` of ``count`` rows, ascending and evenly spread."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(int)


def _fit_line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of least squares; a flat line where x does not vary."""
    centred = x - x.mean()
    scatter = float(centred @ centred)
    slope = float(centred @ y) / scatter if scatter > TINY else 0.0
    return slope, float(y.mean() - slope * x.mean())


def _fit_leverage(
    spectrum: Spectrum, donors: np.ndarray, rows: np.ndarray, held_out: np.ndarray, log_scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The leverage matrix (n_landmarks, n_landmarks), and log leverage of training ``rows`` and of ``held_out``.

    The leverage of a training profile is computed without its donor, as its residuals are. The ridge penalty is the
    one whose leverage predicts the log scale best.
    """
    left, singular, right = spectrum
    genes = len(right)
    projected = held_out @ right  # the coordinates of the training profiles are U S
    outside = np.square(held_out - projected @ right.T).sum(axis=1)
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for penalty in np.array(PENALTIES) * np.mean(singular**2):
        unexplained = penalty / (singular**2 + penalty)
        squares = np.square(projected * unexplained).sum(axis=1) + outside
        if len(rows):
            own = leave_donors_out(left * (singular * unexplained), hat_factor(left, 1 - unexplained), donors)[rows]
            squares = np.concatenate([np.square(own).sum(axis=1), squares])
        log_leverage = np.log(squares / genes + TINY)
        slope, intercept = _fit_line(log_leverage, log_scale)
        error = float(np.square(log_scale - intercept - slope * log_leverage).sum())
        if best is None or error < best[0]:
            best = error, unexplained, log_leverage
    assert best is not None
    return np.eye(genes) - (right * (1 - best[1])) @ right.T, best[2]
