"""Linear reconstruction in closed form: ridge with a leave-one-out penalty, or plain least squares."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from transcriptome_diffusion.expression.scaling import GeneScaler
from transcriptome_diffusion.reconstruction.base import Paired, Reconstructor
from transcriptome_diffusion.reconstruction.options import ReconstructionOptions
from transcriptome_diffusion.reconstruction.ridge import (
    Spectrum,
    hat_root,
    leave_donors_out,
    leave_one_out_by_target,
    leave_one_out_error,
    search_least,
)

logger = logging.getLogger(__name__)

#: targets per block; only a block is ever copied
BLOCK = 2048


@dataclass(eq=False)
class LinearReconstructor(Reconstructor):
    """Every target gene as a linear function of all landmarks, both standardised gene by gene inside.

    Ridge (Hoerl & Kennard 1970, doi:10.1080/00401706.1970.10488634) with one penalty for all targets: that
    with the least exact leave-one-out error over all targets in standardised units. ``penalty_per: target``
    gives every target its own. ``method: ols`` is the paper's multi-output linear regression, of least norm
    where landmarks outnumber profiles.
    """

    name: ClassVar[str] = "linear"

    weights: np.ndarray = field(init=False)  # (n_landmarks, n_targets) float32, of standardised genes

    def _train(
        self,
        train: Paired,
        validation: Paired,
        rows: np.ndarray,
        residuals: np.ndarray,
        spectrum: Spectrum,
        options: ReconstructionOptions,
    ) -> bool:
        left, singular, right = spectrum
        n, landmarks = train.landmarks.shape
        ridge = options.method == "ridge"
        # far from interpolation rounded products of the targets are exact enough, and twice as fast
        precision = np.float32 if ridge and n > 2 * landmarks else np.float64
        targets, work = np.flatnonzero(self.targets), left.astype(precision, copy=False)
        unit = float(np.mean(singular**2))
        candidates = options.penalties if ridge else [0.0]
        penalties = np.array(candidates) * unit
        y = _Targets(train.expression, targets, self.outputs)
        projected, errors, chosen = _search(y, work, singular, penalties, options)
        self._warn_of(chosen, candidates, len(singular) >= n - 1)

        right = right.astype(precision)
        self.weights = np.empty((landmarks, len(targets)), dtype=np.float32)
        for start in range(0, len(targets), BLOCK):
            block = slice(start, start + BLOCK)
            shrunk = singular[:, None] / (np.square(singular)[:, None] + penalties[chosen[block]])
            self.weights[:, block] = right @ (shrunk.astype(precision) * projected[:, block])
        used, counts = np.unique(chosen, return_counts=True)
        self.record = {
            "profiles": n,
            "landmarks": landmarks,
            "targets": len(targets),
            "rank": len(singular),
            "penalty_unit": unit,
            "penalties": [[candidates[i], count] for i, count in zip(used.tolist(), counts.tolist(), strict=True)],
            "leave_one_out_error": [[candidates[i], errors[i]] for i in sorted(errors)],
        }
        median = float(np.median(np.take(candidates, chosen)))
        logger.info("reconstruction: %d targets from %d landmarks, penalty %g", len(targets), landmarks, median)
        if not ridge:  # least squares may interpolate, and then leaves nothing to tell residuals from
            return False
        # of a donor's profiles all are needed, of other donors none
        needed = np.flatnonzero(np.isin(train.donors, train.donors[rows]))
        place, donors = np.searchsorted(needed, rows), train.donors[needed]
        for i in used:
            explained = singular**2 / (singular**2 + penalties[i])
            root, fitted = hat_root(left, explained)[needed], work[needed] * explained.astype(precision)
            for columns, part in y.blocks(precision, np.flatnonzero(chosen == i), needed):
                part -= fitted @ projected[:, columns]
                residuals[:, columns] = leave_donors_out(part, root, donors)[place]
        return True

    def _warn_of(self, chosen: np.ndarray, candidates: Sequence[float], interpolates: bool) -> None:
        """Say where the list of penalties is too short, or least squares has nothing left to average over."""
        if len(candidates) > 1:
            at_end = int(np.isin(chosen, [np.argmin(candidates), np.argmax(candidates)]).sum())
            if 2 * at_end > len(chosen):
                logger.warning(
                    "reconstruction: the best penalty of %d of %d targets is at an end of `penalties` (%g to %g); "
                    "widen the list.",
                    at_end,
                    len(chosen),
                    min(candidates),
                    max(candidates),
                )
        if candidates == [0.0] and interpolates:
            logger.warning(
                "reconstruction: %d landmarks for no more profiles: least squares interpolates its training data; "
                "use method ridge.",
                len(self.landmarks),
            )

    def _predict(self, landmarks: np.ndarray) -> np.ndarray:
        return landmarks @ self.weights

    def _state(self) -> dict[str, np.ndarray]:
        return {"weights": self.weights}

    def _restore(self, tensors: dict[str, np.ndarray]) -> None:
        self.weights = tensors["weights"]


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

        Of all profiles they are centred exactly, of ``rows`` as standardised.
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


def _search(
    targets: _Targets, left: np.ndarray, singular: np.ndarray, penalties: np.ndarray, options: ReconstructionOptions
) -> tuple[np.ndarray, dict[int, float], np.ndarray]:
    """Which penalty each target gets.

    Returns:
        Standardised targets on the left vectors, (rank, n_targets); the mean leave-one-out error of the penalties
        that were tried, by their place; and the place of each target's, (n_targets,).
    """
    n_targets, precision = len(targets.columns), left.dtype.type
    projected = np.empty((len(singular), n_targets), precision)
    if options.method == "ols" or options.penalty_per == "target":
        each = np.zeros((len(penalties), n_targets))
        for block, y in targets.blocks(precision):
            projected[:, block] = within = left.T @ y
            if options.method == "ridge":
                each[:, block] = leave_one_out_by_target(left, singular, within, y, penalties)
        errors = dict(enumerate(each.mean(axis=1).tolist())) if options.method == "ridge" else {}
        return projected, errors, each.argmin(axis=0)
    # every leave-one-out error over all targets needs only products of size (n, rank) and (rank, rank)
    against, norms = np.zeros(left.shape, precision), np.zeros(len(left), precision)
    for block, y in targets.blocks(precision):
        projected[:, block] = within = left.T @ y
        against += y @ within.T
        norms += np.einsum("ij,ij->i", y, y)
    error = leave_one_out_error(left, singular, projected @ projected.T, against, norms)
    errors = {i: found / n_targets for i, found in search_least(lambda i: error(penalties[i]), len(penalties)).items()}
    return projected, errors, np.full(n_targets, min(errors, key=lambda i: errors[i]))
