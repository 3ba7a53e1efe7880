"""Denoiser networks behind one call: ``network(x_t, time, codes)``, time as a share of T."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from transcriptome_diffusion.generators.options import NetworkOptions


class LabelEmbedding(nn.Module):
    """A learnt vector per category: (n, n_conditions) codes to one (n, dim) tensor per condition."""

    def __init__(self, categories: Sequence[int], dim: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(count, dim) for count in categories)

    def forward(self, codes: Tensor) -> list[Tensor]:
        return [table(column) for table, column in zip(self.tables, codes.unbind(1), strict=True)]


class SinusoidalTime(nn.Module):
    """Sines and cosines of time (Vaswani et al. 2017, arXiv:1706.03762) and two layers; (n,) to (n, dim)."""

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        # from half a turn over the whole of time to one turn in a thousandth of it
        turns = torch.logspace(math.log10(0.5), 3, dim // 2)
        self.register_buffer("frequencies", 2 * math.pi * turns, persistent=False)
        self.mix = nn.Sequential(nn.Linear(2 * len(turns), dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, time: Tensor) -> Tensor:
        angles = time[:, None] * self.frequencies
        return self.mix(torch.cat([angles.sin(), angles.cos()], dim=1))


class FiLMBlock(nn.Module):
    """Residual MLP block, shifted, scaled and gated by the condition.

    FiLM (Perez et al. 2018, arXiv:1709.07871) around a layer norm, as in Peebles and Xie (2023),
    arXiv:2212.09748.
    """

    def __init__(self, width: int, condition_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(condition_dim, 3 * width)
        self.dense = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(width, width))
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(condition).chunk(3, dim=1)
        return h + (1 + gate) * self.dense(self.norm(h) * (1 + scale) + shift)


class FiLMNetwork(nn.Module):
    """Ours: residual MLP under FiLM by time and conditions; the output starts at zero."""

    def __init__(self, n_in: int, n_out: int, categories: Sequence[int], options: NetworkOptions) -> None:
        super().__init__()
        self.time = SinusoidalTime(options.embedding_dim)
        self.labels = LabelEmbedding(categories, options.embedding_dim)
        self.into = nn.Linear(n_in, options.width)
        self.blocks = nn.ModuleList(
            FiLMBlock(options.width, options.embedding_dim, options.dropout) for _ in range(options.depth)
        )
        self.norm = nn.LayerNorm(options.width)
        self.out = nn.Linear(options.width, n_out)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, time: Tensor, codes: Tensor) -> Tensor:
        condition = nn.functional.silu(self.time(time) + sum(self.labels(codes)))
        h = self.into(x)
        for block in self.blocks:
            h = block(h, condition)
        return self.out(nn.functional.silu(self.norm(h)))


class PaperNetwork(nn.Module):
    """Lacan et al.: residual MLP over [x_t, t / T, label embedding], the labels injected at every layer."""

    def __init__(self, n_in: int, n_out: int, categories: Sequence[int], options: NetworkOptions) -> None:
        super().__init__()
        self.labels = LabelEmbedding(categories, options.embedding_dim)
        n_labels = options.embedding_dim * len(categories)
        self.shortcut = nn.Linear(n_in + 1 + n_labels, options.width)
        inputs = [n_in + 1] + [options.width] * (options.depth - 1)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(n + n_labels, options.width),
                nn.BatchNorm1d(options.width),
                nn.ReLU(),
                nn.Dropout(options.dropout),
            )
            for n in inputs
        )
        self.out = nn.Linear(options.width, n_out)

    def forward(self, x: Tensor, time: Tensor, codes: Tensor) -> Tensor:
        labels = torch.cat(self.labels(codes), dim=1)
        h = inputs = torch.cat([x, time[:, None].to(x.dtype)], dim=1)
        for layer in self.layers:
            h = layer(torch.cat([h, labels], dim=1))
        return self.out(h + self.shortcut(torch.cat([inputs, labels], dim=1)))


def build_network(n_in: int, n_out: int, categories: Sequence[int], options: NetworkOptions) -> nn.Module:
    """The network ``options`` names, for the given number of categories per condition.

    Its forward takes x (n, n_in), time (n,) float in [0, 1] and codes (n, n_conditions) int64, and returns
    (n, n_out).
    """
    kinds = {"film": FiLMNetwork, "paper": PaperNetwork}
    return kinds[options.kind](n_in, n_out, categories, options)
