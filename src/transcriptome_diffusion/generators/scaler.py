"""Per-gene scaling inside the networks; values outside a model are never scaled."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class Scaler(nn.Module):
    """Per-gene constants between the unit of the profiles and that of the network; saved with the weights.

    With ``linear`` the constants are those of linear values, and profiles have to be in log2(x + 1).
    """

    centre: Tensor
    width: Tensor
    linear: Tensor

    def __init__(self, n_genes: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(n_genes))
        self.register_buffer("width", torch.ones(n_genes))
        self.register_buffer("linear", torch.tensor(False))

    def fit(self, x: np.ndarray, kind: str) -> None:
        """Take mean and standard deviation (``standard``) or zero and the largest magnitude.

        The latter of the logarithms (``max_abs``), or of the linear values under them (``linear_max_abs``), the
        scaling of Lacan et al. (2026).
        """
        standard = kind == "standard"
        self.linear.fill_(kind == "linear_max_abs")
        x = self._unlogged(torch.from_numpy(x)).numpy()
        centre = x.mean(0, dtype=np.float64) if standard else np.zeros(x.shape[1])
        width = x.std(0, dtype=np.float64) if standard else np.abs(x).max(0)
        # a constant gene's deviation is rounding noise, not a scale
        constant = width <= 1e-6 * np.maximum(np.abs(x).max(0), 1e-30)
        self.centre.copy_(torch.from_numpy(centre))
        self.width.copy_(torch.from_numpy(np.where(constant, 0.0, width)))

    def forward(self, x: Tensor) -> Tensor:
        return (self._unlogged(x) - self.centre) / torch.where(self.width > 0, self.width, 1.0)

    def inverse(self, z: Tensor) -> Tensor:
        """Back to the profiles' unit; a gene that was constant in training comes back as that constant."""
        x = self.centre + z * self.width
        return torch.log2(1 + x.clamp(min=0)) if self.linear else x

    def _unlogged(self, x: Tensor) -> Tensor:
        """Profiles in the unit that the constants are in."""
        return torch.exp2(x) - 1 if self.linear else x
