"""What a reconstruction leaves unexplained, as a distribution that can be drawn from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from transcriptome_diffusion.expression.covariance import ledoit_wolf
from transcriptome_diffusion.reconstruction.options import ResidualOptions
from transcriptome_diffusion.reconstruction.ridge import Spectrum, hat_root, leave_donors_out

logger = logging.getLogger(__name__)

#: candidates for the penalty of the strangeness, in units of the landmarks' mean eigenvalue
PENALTIES = [10 ** (e / 2) for e in range(-4, 3)]
#: targets per block of a draw; only a block of the stored residuals is ever held in float32
BLOCK = 2048
#: a mean square below this is none
TINY = 1e-12


@dataclass(frozen=True, eq=False)
class ResidualModel:
    """Residuals of held-out donors: loud where landmarks are strange, correlated as in profiles of one's label.

    A residual is ``exp(loudness / 2) * unit * (Wᵀ w + sqrt(floor) e)`` with standard normal w and e. Its loudness,
    the logarithm of its mean square over all targets, differs between profiles by a factor of ten, and landmarks
    foretell nearly all of that: it is a line in the logarithm of the profile's strangeness, the mean square of
    what ridge regression of the training landmarks *on themselves* leaves of it (the predictive variance of
    Bayesian regression has the same form). W holds the residuals of held-out profiles divided by loudness and by
    each gene's ``unit``, weighted so that WᵀW + floor I is a Ledoit-Wolf covariance whose sample part is a
    mixture of the profiles of the label and of all: those of the label weigh n / (n + pooling).

    Attributes:
        label: the column of the sample table it looks at. labels: its known categories.
        strange: (n_landmarks, n_landmarks), what is left of standardised landmarks.
        line: intercept and slope of loudness on log strangeness, and the lowest and highest of it seen.
        unit: (n_targets,).
        rows: (n_rows, n_targets) float16, residuals over loudness and unit.
        weights: (n_labels + 1, n_rows), of the rows for each label; the last for any other.
        floor: variance off the rows.
    """

    label: str
    labels: tuple[str, ...]
    strange: np.ndarray
    line: np.ndarray
    unit: np.ndarray
    rows: np.ndarray
    weights: np.ndarray
    floor: np.ndarray

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
        """Fit on held-out residuals, and say how well it went; None where there are fewer than three.

        Args:
            spectrum: of the standardised landmarks of all training profiles. donors: (n,), theirs.
            rows: training profiles whose residuals are known, each by a model that did not see its donor; (k,).
            held_out: (m, n_landmarks), standardised alike, of other donors.
            residuals: (k + m, n_targets) float32 of both, standardised as the targets; overwritten.
            labels: (k + m,).
        """
        if len(labels) < 3:
            logger.warning("reconstruction: %d held-out profiles are too few to learn residual noise.", len(labels))
            return None
        loudness = np.log(np.einsum("ij,ij->i", residuals, residuals) / residuals.shape[1] + TINY)
        strange, strangeness = _strangeness(spectrum, donors, rows, held_out, loudness)
        slope, intercept = _line(strangeness, loudness)
        predicted = intercept + slope * strangeness

        residuals /= np.exp(predicted / 2)[:, None].astype(np.float32)
        unit = np.sqrt(np.einsum("ij,ij->j", residuals, residuals) / len(residuals))
        residuals /= np.where(unit > 0, unit, 1)
        shrinkage, variance = ledoit_wolf(residuals)
        known, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        weights = np.full((len(known) + 1, len(labels)), 1 / len(labels))
        for i, size in enumerate(sizes):
            trust = size / (size + options.pooling)
            weights[i] = (1 - trust) / len(labels) + trust / size * (codes == i)
        model = cls(
            label=options.label,
            labels=tuple(known.tolist()),
            strange=strange.astype(np.float32),
            line=np.array([intercept, slope, strangeness.min(), strangeness.max()]),
            unit=unit,
            rows=residuals.astype(np.float16),
            weights=np.sqrt((1 - shrinkage) * weights).astype(np.float32),
            floor=np.array([shrinkage * variance], dtype=np.float32),
        )
        record = {
            "profiles": dict(zip(model.labels, sizes.tolist(), strict=True)),
            "mean_square": float(np.exp(loudness).mean()),
            "loudness_deviation": float(loudness.std()),
            "loudness_deviation_unexplained": float((loudness - predicted).std()),
            "shrinkage": shrinkage,
        }
        return model, record

    def draw(self, landmarks: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One residual per profile, (n, n_targets) float32, for standardised landmarks (n, n_landmarks).

        Unknown labels scatter as all do. Every profile uses up the same number of variates, so that the size of
        batches does not change the draws.
        """
        intercept, slope, lowest, highest = self.line
        strangeness = np.log(np.square(landmarks @ self.strange).mean(axis=1, dtype=np.float64) + TINY)
        loudness = intercept + slope * strangeness.clip(lowest, highest)
        n_rows, targets = self.rows.shape
        noise = rng.standard_normal((len(landmarks), n_rows + targets), dtype=np.float32)
        place = {label: i for i, label in enumerate(self.labels)}
        weighted = noise[:, :n_rows] * self.weights[[place.get(label, -1) for label in labels]]
        drawn = noise[:, n_rows:]
        drawn *= np.sqrt(self.floor)
        for start in range(0, targets, BLOCK):
            block = slice(start, start + BLOCK)
            drawn[:, block] += weighted @ self.rows[:, block].astype(np.float32)
        drawn *= self.unit
        drawn *= np.exp(loudness / 2)[:, None].astype(np.float32)
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
        mine = np.flatnonzero(labels == label)
        picked.append(mine[np.linspace(0, len(mine) - 1, min(most, len(mine))).round().astype(int)])
    return np.sort(np.concatenate(picked)) if picked else np.empty(0, dtype=int)


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of least squares; a flat line where x does not vary."""
    centred = x - x.mean()
    scatter = float(centred @ centred)
    slope = float(centred @ y) / scatter if scatter > TINY else 0.0
    return slope, float(y.mean() - slope * x.mean())


def _strangeness(
    spectrum: Spectrum, donors: np.ndarray, rows: np.ndarray, held_out: np.ndarray, loudness: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The matrix that leaves what is strange, and log strangeness of training ``rows`` and of ``held_out``.

    Training profiles are judged without their donor, as their residuals are. The penalty is the one whose
    strangeness tells loudness best.
    """
    left, singular, right = spectrum
    genes = len(right)
    along = held_out @ right  # the coordinates of the training profiles are U S
    outside = np.square(held_out - along @ right.T).sum(axis=1)
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for penalty in PENALTIES:
        kept = penalty * np.mean(singular**2) / (singular**2 + penalty * np.mean(singular**2))
        squares = np.square(along * kept).sum(axis=1) + outside
        if len(rows):
            own = leave_donors_out(left * (singular * kept), hat_root(left, 1 - kept), donors)[rows]
            squares = np.concatenate([np.square(own).sum(axis=1), squares])
        found = np.log(squares / genes + TINY)
        slope, intercept = _line(found, loudness)
        unexplained = float(np.square(loudness - intercept - slope * found).sum())
        if best is None or unexplained < best[0]:
            best = unexplained, kept, found
    assert best is not None
    return np.eye(genes) - (right * (1 - best[1])) @ right.T, best[2]
