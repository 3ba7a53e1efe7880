"""Linear reconstruction in closed form: ridge with a leave-one-out penalty, or plain least squares."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from transcriptome_diffusion.expression.scaling import GeneScaler
from transcriptome_diffusion.reconstruction.base import PairedProfiles, Reconstructor, TrainingResiduals
from transcriptome_diffusion.reconstruction.options import OLSOptions, RidgeOptions
from transcriptome_diffusion.reconstruction.ridge import (
    Spectrum,
    hat_factor,
    leave_donors_out,
    leave_one_out_by_target,
    leave_one_out_error,
    search_minimum,
)

logger = logging.getLogger(__name__)

#: targets per block; only a block is ever copied
BLOCK = 2048


@dataclass(eq=False)
class LinearReconstructor(Reconstructor):
    """Every target gene as a linear function of all landmarks, both standardised gene by gene."""

    weights: np.ndarray = field(init=False)  # (n_landmarks, n_targets) float32, of standardised genes

    def predict(self, landmarks: np.ndarray) -> np.ndarray:
        return landmarks @ self.weights

    def state(self) -> dict[str, np.ndarray]:
        return {"weights": self.weights}

    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        self.weights = tensors["weights"]


class OLSReconstructor(LinearReconstructor):
    """Multi-output least squares as in the paper, of least norm where landmarks outnumber profiles."""

    name: ClassVar[str] = "ols"

    def train(
        self, training: PairedProfiles, validation: PairedProfiles, spectrum: Spectrum, options: OLSOptions
    ) -> None:
        left, singular, right = spectrum
        n, landmarks = training.landmarks.shape
        if len(singular) >= n - 1:
            logger.warning(
                "reconstruction: %d landmarks for no more profiles: least squares interpolates its training data; "
                "use ridge.",
                landmarks,
            )
        targets = _Targets(training.expression, np.flatnonzero(self.targets), self.outputs)
        self.weights = np.empty((landmarks, len(targets.columns)), dtype=np.float32)
        for block, y in targets.blocks(np.float64):
            self.weights[:, block] = right @ (left.T @ y / singular[:, None])
        self.record = {"profiles": n, "landmarks": landmarks, "targets": len(targets.columns), "rank": len(singular)}
        # it may interpolate the training profiles, and then nothing can be said of those left out


class RidgeReconstructor(LinearReconstructor):
    """Ridge regression (Hoerl & Kennard 1970, doi:10.1080/00401706.1970.10488634).

    One penalty for all targets: that with the least exact leave-one-out error over all targets in standardised units.
    ``penalty_per: target`` gives every target its own.
    """

    name: ClassVar[str] = "ridge"

    def train(
        self, training: PairedProfiles, validation: PairedProfiles, spectrum: Spectrum, options: RidgeOptions
    ) -> TrainingResiduals:
        left, singular, right = spectrum
        n, landmarks = training.landmarks.shape
        # far from interpolation float32 products of the targets are exact enough, and twice as fast
        precision = np.float32 if n > 2 * landmarks else np.float64
        work = left.astype(precision, copy=False)
        unit = float(np.mean(singular**2))
        penalties = np.array(options.penalties) * unit
        targets = _Targets(training.expression, np.flatnonzero(self.targets), self.outputs)
        choose = _penalty_for_all if options.penalty_per == "all" else _penalty_by_target
        projected, errors, chosen = choose(targets, work, singular, penalties)
        self._warn_at_the_ends(chosen, options.penalties)

        right = right.astype(precision)
        self.weights = np.empty((landmarks, len(chosen)), dtype=np.float32)
        for start in range(0, len(chosen), BLOCK):
            block = slice(start, start + BLOCK)
            shrunk = singular[:, None] / (np.square(singular)[:, None] + penalties[chosen[block]])
            self.weights[:, block] = right @ (shrunk.astype(precision) * projected[:, block])
        used, counts = np.unique(chosen, return_counts=True)
        self.record = {
            "profiles": n,
            "landmarks": landmarks,
            "targets": len(chosen),
            "rank": len(singular),
            "penalty_unit": unit,
            "penalties": [[options.penalties[i], c] for i, c in zip(used.tolist(), counts.tolist(), strict=True)],
            "leave_one_out_error": [[options.penalties[i], errors[i]] for i in sorted(errors)],
        }
        median = float(np.median(np.take(options.penalties, chosen)))
        logger.info("reconstruction: %d targets from %d landmarks, penalty %g", len(chosen), landmarks, median)

        def training_residuals(rows: np.ndarray, out: np.ndarray) -> None:
            # of a donor all profiles are needed
            needed = np.flatnonzero(np.isin(training.donors, training.donors[rows]))
            place, donors = np.searchsorted(needed, rows), training.donors[needed]
            for i in used:
                explained = singular**2 / (singular**2 + penalties[i])
                factor, fitted = hat_factor(left, explained)[needed], work[needed] * explained.astype(precision)
                for columns, part in targets.blocks(precision, np.flatnonzero(chosen == i), needed):
                    part -= fitted @ projected[:, columns]
                    out[:, columns] = leave_donors_out(part, factor, donors)[place]

        return training_residuals

    @staticmethod
    def _warn_at_the_ends(chosen: np.ndarray, candidates: list[float]) -> None:
        """Say so where the list of penalties is too short."""
        at_end = int(np.isin(chosen, [np.argmin(candidates), np.argmax(candidates)]).sum())
        if len(candidates) > 1 and 2 * at_end > len(chosen):
            logger.warning(
                "reconstruction: the best penalty of %d of %d targets is at an end of `penalties` (%g to %g); "
                "extend the list.",
                at_end,
                len(chosen),
                min(candidates),
                max(candidates),
            )


@dataclass(frozen=True, eq=False)
class _Targets:
    """Target genes of training profiles, standardised block by block: only a block is ever copied.

    Attributes:
        expression: (n, n_genes). columns: the targets' places in it. scaler: of the targets.
    """

    expression: np.ndarray
    columns: np.ndarray
    scaler: GeneScaler

    def blocks(
        self, precision: type[np.floating], which: np.ndarray | None = None, rows: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Places among the targets and their values (n, block): of all targets or of ``which``.

        Values of all profiles are centred exactly, those of ``rows`` as standardised.
        """
        which = np.arange(len(self.columns)) if which is None else which
        for start in range(0, len(which), BLOCK):
            block = which[start : start + BLOCK]
            columns = self.columns[block]
            part = self.expression[:, columns] if rows is None else self.expression[rows[:, None], columns]
            part = part.astype(precision, copy=False)
            part -= self.scaler.mean[block]
            part /= self.scaler.scale[block]
            if rows is None:
                part -= part.mean(axis=0)
            yield block, part


#: standardised targets on the left vectors, (rank, n_targets); the mean leave-one-out error of every penalty that was
#: tried, by its place in the list; and the place of each target's penalty, (n_targets,)
Choice = tuple[np.ndarray, dict[int, float], np.ndarray]


def _penalty_for_all(targets: _Targets, left: np.ndarray, singular: np.ndarray, penalties: np.ndarray) -> Choice:
    """One penalty: every error over all targets needs only products of size (n, rank) and (rank, rank)."""
    n_targets, precision = len(targets.columns), left.dtype.type
    projected = np.empty((len(singular), n_targets), precision)
    against, norms = np.zeros(left.shape, precision), np.zeros(len(left), precision)
    for block, y in targets.blocks(precision):
        projected[:, block] = within = left.T @ y
        against += y @ within.T
        norms += np.einsum("ij,ij->i", y, y)
    error = leave_one_out_error(left, singular, projected @ projected.T, against, norms)
    errors = search_minimum(lambda i: error(penalties[i]) / n_targets, len(penalties))
    return projected, errors, np.full(n_targets, min(errors, key=lambda i: errors[i]))


def _penalty_by_target(targets: _Targets, left: np.ndarray, singular: np.ndarray, penalties: np.ndarray) -> Choice:
    """A penalty for each target."""
    n_targets, precision = len(targets.columns), left.dtype.type
    projected, errors = np.empty((len(singular), n_targets), precision), np.empty((len(penalties), n_targets))
    for block, y in targets.blocks(precision):
        projected[:, block] = within = left.T @ y
        errors[:, block] = leave_one_out_by_target(left, singular, within, y, penalties)
    return projected, dict(enumerate(errors.mean(axis=1).tolist())), errors.argmin(axis=0)
