"""Gene-wise standardisation: the space in which models fit and indicators measure distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

#: genes per block, in float64
BLOCK = 2048


@dataclass(frozen=True)
class GeneScaler:
    """Shift and scale of every gene, both (n_genes,) float32, in the log unit of the profiles.

    A gene that never varies keeps its unit (scale 1): it is centred and carries no weight.
    """

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray) -> Self:
        """Mean and standard deviation (n in the denominator) of each column of ``values`` (n_samples, n_genes)."""
        mean, scale = np.empty(values.shape[1]), np.empty(values.shape[1])
        for start in range(0, values.shape[1], BLOCK):  # a float64 copy of all genes would not fit
            genes = slice(start, start + BLOCK)
            part = values[:, genes].astype(np.float64)
            mean[genes], scale[genes] = part.mean(axis=0), part.std(axis=0)
        # rounding gives a constant column a deviation of about 1e-16 instead of 0
        scale[values.max(axis=0) == values.min(axis=0)] = 1.0
        return cls(mean.astype(np.float32), scale.astype(np.float32))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """``values`` in standard deviations from the mean, (n_samples, n_genes)."""
        found = values - self.mean
        return np.divide(found, self.scale, out=found) if found.dtype.kind == "f" else found / self.scale

    def undo(self, standardised: np.ndarray) -> np.ndarray:
        """Back into the log unit, (n_samples, n_genes)."""
        return standardised * self.scale + self.mean
