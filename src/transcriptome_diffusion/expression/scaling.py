"""Gene-wise standardisation: the space in which models fit and indicators measure distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np


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
        mean = values.mean(axis=0, dtype=np.float64)
        scale = values.std(axis=0, dtype=np.float64)
        # rounding gives a constant column a deviation of about 1e-16 instead of 0
        scale[values.max(axis=0) == values.min(axis=0)] = 1.0
        return cls(mean.astype(np.float32), scale.astype(np.float32))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """``values`` in standard deviations from the mean, (n_samples, n_genes)."""
        return (values - self.mean) / self.scale

    def undo(self, standardised: np.ndarray) -> np.ndarray:
        """Back into the log unit, (n_samples, n_genes)."""
        return standardised * self.scale + self.mean
