"""Per-gene scaling inside the networks: nobody outside a model sees a scaled value."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class Scaler(nn.Module):
    """Per-gene constants between the unit of the profiles and that of the network; saved with the weights."""

    centre: Tensor
    width: Tensor

    def __init__(self, n_genes: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(n_genes))
        self.register_buffer("width", torch.ones(n_genes))

    def fit(self, x: np.ndarray, kind: str) -> None:
        """Take mean and standard deviation (``standard``) or zero and the largest magnitude (``max_abs``)."""
        standard = kind == "standard"
        centre = x.mean(0, dtype=np.float64) if standard else np.zeros(x.shape[1])
        width = x.std(0, dtype=np.float64) if standard else np.abs(x).max(0)
        # a constant gene's deviation is rounding noise, not a scale
        constant = width <= 1e-6 * np.maximum(np.abs(x).max(0), 1e-30)
        self.centre.copy_(torch.from_numpy(centre))
        self.width.copy_(torch.from_numpy(np.where(constant, 0.0, width)))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.centre) / torch.where(self.width > 0, self.width, 1.0)

    def inverse(self, z: Tensor) -> Tensor:
        """Back to the profiles' unit; a gene that was constant in training comes back as that constant."""
        return self.centre + z * self.width
