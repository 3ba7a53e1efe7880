"""A dense layer whose products a GPU does at full speed, whatever its widths."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: tensor cores read rows in words of 16 bytes, which are 8 numbers in bfloat16
WORD = 8
#: with fewer rows, copying the weights takes longer than their product gains
ROWS = 256


class DenseLayer(nn.Linear):
    """``nn.Linear``; on a GPU both widths are filled up with zeros to a multiple of 8 for the time of the product.

    4,096 values joined with labels make rows of 4,145, for which cuBLAS has slow kernels alone. Parameters and results
    are those of ``nn.Linear``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., n_out) for x (..., n_in)."""
        whole = not any(width % WORD for width in self.weight.shape)  # padding by nothing would copy both
        if whole or x.device.type != "cuda" or len(x) < ROWS:
            return super().forward(x)
        return self.filled_up(x)

    def filled_up(self, x: Tensor) -> Tensor:
        """``forward`` by way of the filled-up product."""
        weight, device = self.weight, x.device.type
        if torch.is_autocast_enabled(device):  # rounded first, so that less is copied
            precision = torch.get_autocast_dtype(device)
            x, weight = x.to(precision), weight.to(precision)
        missing_out, missing_in = (-width % WORD for width in weight.shape)
        x, weight = nn.functional.pad(x, (0, missing_in)), nn.functional.pad(weight, (0, missing_in, 0, missing_out))
        found = nn.functional.linear(x, weight, nn.functional.pad(self.bias, (0, missing_out)))
        return found[..., : self.out_features]
