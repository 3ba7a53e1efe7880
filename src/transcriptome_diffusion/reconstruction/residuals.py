"""What a reconstruction leaves unexplained, as a distribution that can be drawn from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.stats import norm

from transcriptome_diffusion.expression.covariance import ledoit_wolf
from transcriptome_diffusion.reconstruction.options import ResidualOptions
from transcriptome_diffusion.reconstruction.ridge import Spectrum, hat_factor, leave_donors_out

logger = logging.getLogger(__name__)

#: candidates for the ridge penalty of the leverage, in units of the landmarks' mean eigenvalue
PENALTIES = [10 ** (e / 2) for e in range(-4, 3)]
#: residuals that a draw mixes
MIXED = 3
#: targets per block of a draw; only a block of the stored residuals is ever held in float32
BLOCK = 2048
#: a mean square below this is zero
TINY = 1e-12


@dataclass(frozen=True, eq=False)
class ResidualModel:
    """Residuals of held-out donors: large where landmarks are unusual, and correlated as in real profiles.

    A residual is ``exp(log_scale / 2) * gene_scale * (sqrt(1 - s) sum_j w_j r_j + sqrt(s m) e)``:

    - The log scale of a profile is the logarithm of its mean squared residual over all targets. It differs between
      profiles by a factor of ten, and the landmarks predict nearly all of that: it is linear in the logarithm of
      the profile's leverage. Leverage here is the mean square of what ridge regression of the training landmarks
      *on themselves* leaves of the profile (the predictive variance of Bayesian regression has the same form).
    - r_j are the residuals of ``MIXED`` held-out profiles, drawn at random, divided by both scales and centred. The
      weights w are uniform on the simplex (Rubin's Bayesian bootstrap 1981, doi:10.1214/aos/1176345338) before they are
      scaled to a sum of squares of 1, so that the covariance is that of the profiles. A mixture of few residuals has
      the shapes of real ones; classifiers recognise normal draws of the same covariance sooner.
    - e is standard normal. s and m shrink the covariance towards m I, by a share of what Ledoit and Wolf's formula asks
      for.

    Attributes:
        leverage: (n_landmarks, n_landmarks), maps standardised landmarks to what ridge leaves of them.
        line: intercept and slope of the log scale on log leverage, and the lowest and highest log leverage seen.
        gene_scale: (n_targets,), root mean square of the residuals over their profiles' scales.
        samples: (n_samples, n_targets) float16, residuals divided by both scales, centred.
        weights: (2,), sqrt(1 - s) and sqrt(s m).
    """

    leverage: np.ndarray
    line: np.ndarray
    gene_scale: np.ndarray
    samples: np.ndarray
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
        shrinkage, variance = ledoit_wolf(residuals)
        shrinkage *= options.shrinkage
        model = cls(
            leverage=leverage.astype(np.float32),
            line=np.array([intercept, slope, log_leverage.min(), log_leverage.max()]),
            gene_scale=gene_scale,
            samples=residuals.astype(np.float16),
            weights=np.sqrt([1 - shrinkage, shrinkage * variance]).astype(np.float32),
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
        n_samples, targets = self.samples.shape
        noise = rng.standard_normal((len(landmarks), targets + 2 * MIXED), dtype=np.float32)
        uniform = norm.cdf(noise[:, targets:].astype(np.float64)).clip(max=1 - 1e-9)
        rows = (n_samples * uniform[:, :MIXED]).astype(np.int64)
        weights = -np.log1p(-uniform[:, MIXED:])
        weights *= self.weights[0] / np.linalg.norm(weights, axis=1, keepdims=True)
        drawn = noise[:, :targets]
        drawn *= self.weights[1]
        for j in range(MIXED):
            for start in range(0, targets, BLOCK):
                block = slice(start, start + BLOCK)
                drawn[:, block] += weights[:, j, None].astype(np.float32) * self.samples[rows[:, j], block]
        drawn *= self.gene_scale
        drawn *= np.exp(log_scale / 2)[:, None].astype(np.float32)
        return drawn

    def state(self) -> dict[str, np.ndarray]:
        """Every array, named as the attribute."""
        return dict(vars(self))


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
