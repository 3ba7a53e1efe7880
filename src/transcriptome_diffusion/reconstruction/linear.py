"""Linear reconstruction in closed form: ridge with a leave-one-out penalty, or plain least squares."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from transcriptome_diffusion.expression.scaling import GeneScaler
from transcriptome_diffusion.parameters import ReconstructionOptions
from transcriptome_diffusion.reconstruction.base import Paired, Reconstructor
from transcriptome_diffusion.reconstruction.ridge import decompose, hat_root, leave_donors_out, leave_one_out_errors

logger = logging.getLogger(__name__)

#: targets per block; only a block is ever copied
BLOCK = 2048


@dataclass(eq=False)
class LinearReconstructor(Reconstructor):
    """Every target gene as a linear function of all landmarks, both standardised gene by gene inside.

    Ridge (Hoerl & Kennard 1970, doi:10.1080/00401706.1970.10488634) with one penalty for all targets: that
    with the least exact leave-one-out error over all targets in standardised units. ``method: ols`` is the
    paper's multi-output linear regression, of least norm where landmarks outnumber profiles.
    """

    name: ClassVar[str] = "linear"

    weights: np.ndarray = field(init=False)  # (n_landmarks, n_targets) float32, of standardised genes

    def _train(
        self,
        train: Paired,
        validation: Paired,
        rows: np.ndarray,
        residuals: np.ndarray,
        options: ReconstructionOptions,
    ) -> bool:
        x = _centred(self.inputs(train.landmarks.astype(np.float64)))
        n, landmarks = x.shape
        ridge = options.method == "ridge"
        # far from interpolation rounded products of the targets are exact enough, and twice as fast
        rounded = ridge and n > 2 * landmarks
        precision = np.float32 if rounded else np.float64
        left, singular, right = decompose(x, exact=not rounded)
        del x
        targets, work = np.flatnonzero(self.targets), left.astype(precision, copy=False)
        projected = np.empty((len(singular), len(targets)), precision)  # of standardised targets on the left vectors
        against: np.ndarray = np.zeros(left.shape, precision)
        norms: np.ndarray = np.zeros(n, precision)
        for block, y in _blocks(train.expression, targets, self.outputs, precision):
            projected[:, block] = work.T @ y
            if ridge:
                against += y @ projected[:, block].T
                norms += np.einsum("ij,ij->i", y, y)

        unit, errors = float(np.mean(singular**2)), {}
        if ridge:  # every leave-one-out error needs only products of size (n, rank) and (rank, rank)
            penalties = [penalty * unit for penalty in options.penalties]
            found = leave_one_out_errors(work, singular, projected @ projected.T, against, norms, penalties)
            errors = {p: error / len(targets) for p, error in zip(options.penalties, found, strict=True)}
        del against
        chosen = min(errors, key=lambda p: errors[p]) if errors else 0.0
        if len(errors) > 1 and chosen in (min(errors), max(errors)):
            logger.warning("reconstruction: the best penalty %g is at the end of `penalties`; widen the list.", chosen)
        if not ridge and len(singular) >= n - 1:
            logger.warning(
                "reconstruction: %d profiles for %d landmarks: least squares interpolates its training data; "
                "use method ridge.",
                n,
                landmarks,
            )
        shrunk = (right * (singular / (singular**2 + chosen * unit))).astype(precision)
        self.weights = np.empty((landmarks, len(targets)), dtype=np.float32)
        for start in range(0, len(targets), BLOCK):
            block = slice(start, start + BLOCK)
            self.weights[:, block] = shrunk @ projected[:, block]
        self.record = {
            "profiles": n,
            "landmarks": landmarks,
            "targets": len(targets),
            "rank": len(singular),
            "penalty": chosen,
            "penalty_unit": unit,
            "leave_one_out_error": [[penalty, error] for penalty, error in errors.items()],
        }
        logger.info("reconstruction: %d targets from %d landmarks, penalty %g", len(targets), landmarks, chosen)
        if not ridge:  # least squares may interpolate, and then leaves nothing to tell residuals from
            return False
        explained = singular**2 / (singular**2 + chosen * unit)
        # of a donor's profiles all are needed, of other donors none
        needed = np.flatnonzero(np.isin(train.donors, train.donors[rows]))
        place, donors = np.searchsorted(needed, rows), train.donors[needed]
        root = hat_root(left, explained)[needed]
        fitted = work[needed] * explained.astype(precision)
        for block, y in _blocks(train.expression, targets, self.outputs, precision, needed):
            y -= fitted @ projected[:, block]
            residuals[:, block] = leave_donors_out(y, root, donors)[place]
        return True

    def _predict(self, landmarks: np.ndarray) -> np.ndarray:
        return landmarks @ self.weights

    def _state(self) -> dict[str, np.ndarray]:
        return {"weights": self.weights}

    def _restore(self, tensors: dict[str, np.ndarray]) -> None:
        self.weights = tensors["weights"]


def _centred(values: np.ndarray) -> np.ndarray:
    # the stored float32 means are off by a rounding; U must be orthogonal to the ones exactly
    return values - values.mean(axis=0)


def _blocks(
    values: np.ndarray,
    columns: np.ndarray,
    scaler: GeneScaler,
    precision: type[np.floating],
    rows: np.ndarray | None = None,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Standardised columns of ``values`` in blocks, with their place among ``columns``; of all rows or of some."""
    for start in range(0, len(columns), BLOCK):
        block = slice(start, start + BLOCK)
        part = values[:, columns[block]] if rows is None else values[rows[:, None], columns[block]]
        part = part.astype(precision, copy=False)
        part -= scaler.mean[block]
        part /= scaler.scale[block]
        if rows is None:
            part -= part.mean(axis=0)
        yield block, part
