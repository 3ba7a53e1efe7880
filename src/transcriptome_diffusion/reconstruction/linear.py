"""Linear reconstruction in closed form: ridge with a leave-one-out penalty, or plain least squares."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Self

import anndata as ad
import numpy as np
import scipy.linalg

from transcriptome_diffusion.expression.profiles import dense
from transcriptome_diffusion.expression.scaling import GeneScaler
from transcriptome_diffusion.parameters import ReconstructionOptions
from transcriptome_diffusion.reconstruction.base import Reconstructor

logger = logging.getLogger(__name__)

#: targets per block; only a block is ever held in float64
BLOCK = 2048


@dataclass(eq=False)
class LinearReconstructor(Reconstructor):
    """Every target gene as a linear function of all landmarks, both standardised gene by gene inside.

    Ridge (Hoerl & Kennard 1970, doi:10.1080/00401706.1970.10488634) with one penalty for all targets: that
    with the least exact leave-one-out error over all targets in standardised units. ``method: ols`` is the
    paper's multi-output linear regression, of least norm where landmarks outnumber profiles.
    """

    name: ClassVar[str] = "linear"

    inputs: GeneScaler = field(init=False)
    outputs: GeneScaler = field(init=False)
    weights: np.ndarray = field(init=False)  # (n_landmarks, n_targets) float32, of standardised genes

    @classmethod
    def fit(cls, landmarks: ad.AnnData, expression: ad.AnnData, options: ReconstructionOptions) -> Self:
        model = cls(**cls._common(landmarks, expression, options))
        values = dense(landmarks)
        model.inputs = GeneScaler.fit(values)
        x = _centred(model.inputs(values.astype(np.float64)))
        left, singular, right = scipy.linalg.svd(x, full_matrices=False, overwrite_a=True, check_finite=False)
        rank = int((singular > singular[0] * max(x.shape) * np.finfo(np.float64).eps).sum())
        if not rank:
            raise ValueError("no landmark gene varies among the training profiles; nothing can be learnt.")
        left, singular, right = left[:, :rank], singular[:rank], right[:rank]

        everything, targets = dense(expression), np.flatnonzero(model.targets)
        whole = GeneScaler.fit(everything)
        model.outputs = GeneScaler(whole.mean[targets], whole.scale[targets])
        projected = np.empty((rank, len(targets)))  # of the standardised targets on the left vectors
        against, norms = np.zeros((len(x), rank)), np.zeros(len(x))
        for block, y in _blocks(everything, targets, model.outputs):
            projected[:, block] = left.T @ y
            against += y @ projected[:, block].T
            norms += np.einsum("ij,ij->i", y, y)

        # every leave-one-out error needs only products of size (n, rank) and (rank, rank)
        gram = projected @ projected.T
        unit = float(np.mean(singular**2))
        errors = {
            penalty: leave_one_out_error(left, singular, gram, against, norms, penalty * unit) / len(targets)
            for penalty in (options.penalties if options.method == "ridge" else [])
        }
        chosen = min(errors, key=lambda p: errors[p]) if errors else 0.0
        if len(errors) > 1 and chosen in (min(errors), max(errors)):
            logger.warning("reconstruction: the best penalty %g is at the end of `penalties`; widen the list.", chosen)
        if options.method == "ols" and rank >= len(x) - 1:
            logger.warning(
                "reconstruction: %d profiles for %d landmarks: least squares interpolates its training data; "
                "use method ridge.",
                *x.shape,
            )
        shrunk = singular / (singular**2 + chosen * unit)
        model.weights = np.empty((x.shape[1], len(targets)), dtype=np.float32)
        for start in range(0, len(targets), BLOCK):
            block = slice(start, start + BLOCK)
            model.weights[:, block] = right.T @ (shrunk[:, None] * projected[:, block])
        model.record = {
            "profiles": len(x),
            "landmarks": x.shape[1],
            "targets": len(targets),
            "rank": rank,
            "penalty": chosen,
            "penalty_unit": unit,
            "leave_one_out_error": [[penalty, error] for penalty, error in errors.items()],
        }
        logger.info("reconstruction: %d targets from %d landmarks, penalty %g", len(targets), x.shape[1], chosen)
        return model

    def _predict(self, landmarks: np.ndarray) -> np.ndarray:
        return self.outputs.undo(self.inputs(landmarks) @ self.weights)

    def _state(self) -> dict[str, np.ndarray]:
        return {
            "weights": self.weights,
            "input_mean": self.inputs.mean,
            "input_scale": self.inputs.scale,
            "output_mean": self.outputs.mean,
            "output_scale": self.outputs.scale,
        }

    def _restore(self, tensors: dict[str, np.ndarray]) -> None:
        self.weights = tensors["weights"]
        self.inputs = GeneScaler(tensors["input_mean"], tensors["input_scale"])
        self.outputs = GeneScaler(tensors["output_mean"], tensors["output_scale"])


def leave_one_out_error(
    left: np.ndarray,
    singular: np.ndarray,
    gram: np.ndarray,
    against: np.ndarray,
    norms: np.ndarray,
    penalty: float,
) -> float:
    """Mean over samples of the squared leave-one-out residuals of ridge, summed over all targets.

    With X = U S Vᵀ and Y centred, the residual of a sample is that of the fit on all, e, over 1 - h
    (Allen 1974, doi:10.1080/00401706.1974.10489157). Here |e|² over all targets comes from products that
    no longer hold the targets, split into the part in the span of U and the part outside of it, so that
    nothing cancels where the fit comes close to interpolation.

    Args:
        left: U (n, rank), orthogonal to the vector of ones. singular: S (rank,).
        gram: (UᵀY)(UᵀY)ᵀ, (rank, rank). against: Y (UᵀY)ᵀ, (n, rank). norms: squared row norms of Y, (n,).
        penalty: the ridge penalty on the sum of squares of the weights.
    """
    kept = penalty / (singular**2 + penalty)  # the share of Y that ridge leaves over along each vector
    within = left @ gram
    outside = against - within
    outside_norms = (norms - ((against + outside) * left).sum(axis=1)).clip(min=0)
    scaled = left * kept
    squared = ((scaled @ gram) * scaled).sum(axis=1) + 2 * (scaled * outside).sum(axis=1) + outside_norms
    outside_leverage = (1 - 1 / len(left) - np.square(left).sum(axis=1)).clip(min=0)
    return float(np.mean(squared / np.square((np.square(left) * kept).sum(axis=1) + outside_leverage)))


def _centred(values: np.ndarray) -> np.ndarray:
    # the stored float32 means are off by a rounding; U must be orthogonal to the ones exactly
    return values - values.mean(axis=0)


def _blocks(values: np.ndarray, columns: np.ndarray, scaler: GeneScaler) -> Iterator[tuple[slice, np.ndarray]]:
    """Standardised float64 columns of ``values`` in blocks, with their place among ``columns``."""
    for start in range(0, len(columns), BLOCK):
        block = slice(start, start + BLOCK)
        part = values[:, columns[block]].astype(np.float64)
        yield block, _centred((part - scaler.mean[block]) / scaler.scale[block])
