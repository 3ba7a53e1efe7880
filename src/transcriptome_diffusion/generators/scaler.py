"""Per-gene scaling inside the networks; values outside a model are never scaled."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class Scaler(nn.Module):
    """Per-gene constants between the unit of the profiles and that of the network; saved with the weights.

    With ``linear`` the constants are those of linear values, and profiles have to be in log2(x + 1). Linear values
    below zero then become 0, or with ``signed`` -log2(1 - x).
    """

    centre: Tensor
    width: Tensor
    linear: Tensor
    signed: Tensor

    def __init__(self, n_genes: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(n_genes))
        self.register_buffer("width", torch.ones(n_genes))
        self.register_buffer("linear", torch.tensor(False))
        self.register_buffer("signed", torch.tensor(False))

    def fit(self, x: np.ndarray, kind: str, signed: bool = False) -> None:
        """Take mean and standard deviation (``standard``) or zero and the largest magnitude (``max_abs``).

        ``linear_standard`` and ``linear_max_abs`` are those of the linear values under the logarithms: the scalings of
        Lacan et al. (2026), the former for VAE and WGAN-GP, the latter for diffusion.
        """
        standard = kind.endswith("standard")
        self.linear.fill_(kind.startswith("linear"))
        self.signed.fill_(signed)
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
        if not self.linear:
            return x
        return torch.copysign(torch.log2(1 + x.abs()), x) if self.signed else torch.log2(1 + x.clamp(min=0))

    def _unlogged(self, x: Tensor) -> Tensor:
        """Profiles in the unit that the constants are in."""
        if not self.linear:
            return x
        return torch.copysign(torch.exp2(x.abs()) - 1, x) if self.signed else torch.exp2(x) - 1
