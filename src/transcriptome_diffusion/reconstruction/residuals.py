"""What a reconstruction leaves unexplained, as a distribution that can be drawn from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from transcriptome_diffusion.expression.covariance import ledoit_wolf
from transcriptome_diffusion.reconstruction.options import ResidualOptions
from transcriptome_diffusion.reconstruction.ridge import Spectrum, hat_factor, leave_donors_out

logger = logging.getLogger(__name__)

#: candidates for the ridge penalty of the leverage, in units of the landmarks' mean eigenvalue
PENALTIES = [10 ** (e / 2) for e in range(-4, 3)]
#: targets per block of a draw; only a block of the stored residuals is ever held in float32
BLOCK = 2048
#: a mean square below this is zero
TINY = 1e-12


@dataclass(frozen=True, eq=False)
class ResidualModel:
    """Residuals of held-out donors: large where landmarks are unusual, correlated as in profiles of the same label.

    A residual is ``exp(log_scale / 2) * gene_scale * (Wᵀ w + sqrt(noise_variance) e)`` with standard normal w and e.

    - The log scale of a profile is the logarithm of its mean squared residual over all targets. It differs between
      profiles by a factor of ten, and the landmarks predict nearly all of that: it is linear in the logarithm of
      the profile's leverage. Leverage here is the mean square of what ridge regression of the training landmarks
      *on themselves* leaves of the profile (the predictive variance of Bayesian regression has the same form).
    - W holds the residuals of held-out profiles divided by both scales, weighted so that WᵀW + noise_variance I is
      their covariance, shrunk by a share of what Ledoit and Wolf's formula asks for. Its sample part mixes the profiles
      of the label and of all labels; those of the label count n / (n + pooling).

    Attributes:
        label: the column of the sample table that it looks at. labels: its known categories.
        leverage: (n_landmarks, n_landmarks), maps standardised landmarks to what ridge leaves of them.
        line: intercept and slope of the log scale on log leverage, and the lowest and highest log leverage seen.
        gene_scale: (n_targets,), root mean square of the residuals over their profiles' scales.
        samples: (n_samples, n_targets) float16, residuals divided by both scales.
        weights: (n_labels + 1, n_samples), of the samples for each label; the last row is for any other label.
        noise_variance: (1,), the part of the variance that the samples do not carry.
    """

    label: str
    labels: tuple[str, ...]
    leverage: np.ndarray
    line: np.ndarray
    gene_scale: np.ndarray
    samples: np.ndarray
    weights: np.ndarray
    noise_variance: np.ndarray

    @classmethod
    def fit(
        cls,
        spectrum: Spectrum,
        donors: np.ndarray,
        rows: np.ndarray,
        held_out: np.ndarray,
        residuals: np.ndarray,
        labels: np.ndarray,
        options: ResidualOptions,
    ) -> tuple[Self, dict[str, Any]] | None:
        """Fit on held-out residuals, and report how well it went; None where there are fewer than three.

        Args:
            spectrum: of the standardised landmarks of all training profiles. donors: (n,), theirs.
            rows: (k,), training profiles whose residuals are known, each from a model that did not see its donor.
            held_out: (m, n_landmarks), landmarks of other donors, standardised alike.
            residuals: (k + m, n_targets) float32 of both, standardised as the targets; overwritten.
            labels: (k + m,).
        """
        if len(labels) < 3:
            logger.warning("reconstruction: %d held-out profiles are too few to learn residual noise.", len(labels))
            return None
        log_scale = np.log(np.einsum("ij,ij->i", residuals, residuals) / residuals.shape[1] + TINY)
        leverage, log_leverage = _fit_leverage(spectrum, donors, rows, held_out, log_scale)
        slope, intercept = _fit_line(log_leverage, log_scale)
        predicted = intercept + slope * log_leverage

        residuals /= np.exp(predicted / 2)[:, None].astype(np.float32)
        gene_scale = np.sqrt(np.einsum("ij,ij->j", residuals, residuals) / len(residuals))
        residuals /= np.where(gene_scale > 0, gene_scale, 1)
        shrinkage, variance = ledoit_wolf(residuals)
        shrinkage *= options.shrinkage
        known, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        own = sizes / (sizes + options.pooling)  # how much the label's own profiles count
        members = codes == np.arange(len(known))[:, None]
        weights = np.full((len(known) + 1, len(labels)), 1 / len(labels))
        weights[:-1] = ((1 - own) / len(labels))[:, None] + (own / sizes)[:, None] * members
        model = cls(
            label=options.label,
            labels=tuple(known.tolist()),
            leverage=leverage.astype(np.float32),
            line=np.array([intercept, slope, log_leverage.min(), log_leverage.max()]),
            gene_scale=gene_scale,
            samples=residuals.astype(np.float16),
            weights=np.sqrt((1 - shrinkage) * weights).astype(np.float32),
            noise_variance=np.array([shrinkage * variance], dtype=np.float32),
        )
        record = {
            "profiles": dict(zip(model.labels, sizes.tolist(), strict=True)),
            "mean_square": float(np.exp(log_scale).mean()),
            "log_scale_sd": float(log_scale.std()),
            "log_scale_sd_unexplained": float((log_scale - predicted).std()),
            "shrinkage": shrinkage,
        }
        return model, record

    def draw(self, landmarks: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One residual per profile, (n, n_targets) float32, for standardised landmarks (n, n_landmarks).

        Profiles of an unknown label get the covariance of all labels together. Every profile uses up the same number
        of random numbers, so that the size of batches does not change the draws.
        """
        intercept, slope, lowest, highest = self.line
        log_leverage = np.log(np.square(landmarks @ self.leverage).mean(axis=1, dtype=np.float64) + TINY)
        log_scale = intercept + slope * log_leverage.clip(lowest, highest)
        n_samples, targets = self.samples.shape
        noise = rng.standard_normal((len(landmarks), n_samples + targets), dtype=np.float32)
        place = {label: i for i, label in enumerate(self.labels)}
        weighted = noise[:, :n_samples] * self.weights[[place.get(label, -1) for label in labels]]
        drawn = noise[:, n_samples:]
        drawn *= np.sqrt(self.noise_variance)
        for start in range(0, targets, BLOCK):
            block = slice(start, start + BLOCK)
            drawn[:, block] += weighted @ self.samples[:, block].astype(np.float32)
        drawn *= self.gene_scale
        drawn *= np.exp(log_scale / 2)[:, None].astype(np.float32)
        return drawn

    def state(self) -> dict[str, np.ndarray]:
        """Every array, named as the attribute."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    @classmethod
    def restore(cls, description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Self:
        """From ``label`` and ``labels``, and the arrays of ``state``."""
        return cls(label=description["label"], labels=tuple(description["labels"]), **tensors)


def thin(labels: np.ndarray, most: int) -> np.ndarray:
    """Rows (ascending) of at most ``most`` profiles of every label, evenly spread over its profiles."""
    picked = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        picked.append(members[np.linspace(0, len(members) - 1, min(most, len(members))).round().astype(int)])
    return np.sort(np.concatenate(picked)) if picked else np.empty(0, dtype=int)


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
