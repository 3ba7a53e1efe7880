"""A baseline: one Gaussian per class, its covariance shrunk by the formula of Ledoit and Wolf."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from transcriptome_diffusion.generators.classes import ClassGenerator


@dataclass(eq=False)
class ClassGaussian(ClassGenerator):
    """A Gaussian per combination of conditions: the class mean and the class's Ledoit-Wolf covariance."""

    name: ClassVar[str] = "class_gaussian"

    def sample_codes(self, codes: np.ndarray, seed: int, batch_size: int) -> np.ndarray:
        index = self.classes.find(codes, self.conditions)
        rng = np.random.default_rng(seed)
        drawn = np.empty((len(codes), len(self.scale)), dtype=np.float32)
        for start in range(0, len(codes), batch_size):
            batch = slice(start, start + batch_size)
            drawn[batch] = self.means[index[batch]] + self.scale * self.deviations(index[batch], rng)
        return drawn
