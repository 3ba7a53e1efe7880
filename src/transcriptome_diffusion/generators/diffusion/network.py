"""Denoiser networks behind one call: ``network(x_t, time, codes, rows, gain)``, time as a share of T."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from transcriptome_diffusion.generators.options import NetworkOptions
from transcriptome_diffusion.layers import DenseLayer

#: of layer norm in the network of Lacan et al.
PAPER_EPS = 1e-6


class LabelEmbedding(nn.Module):
    """A learnt vector per category: (n, n_conditions) codes to one (n, dim) tensor per condition."""

    def __init__(self, categories: Sequence[int], dim: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(count, dim) for count in categories)
        self.width = dim * len(categories)

    def forward(self, codes: Tensor) -> list[Tensor]:
        return [table(column) for table, column in zip(self.tables, codes.unbind(1), strict=True)]


class IndicatorEmbedding(nn.Module):
    """Lacan et al.'s labels: ``dim`` numbers for every category of a condition, (n, count * dim) per condition.

    A table of ``count`` vectors is looked up with the label as indicators (one 1 and otherwise 0): the category's own
    place holds row 1 of the table, every other place row 0. The remaining rows exist, and get no gradient.
    """

    def __init__(self, categories: Sequence[int], dim: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(max(count, 2), dim) for count in categories)
        self.categories = tuple(categories)
        self.width = dim * sum(categories)

    def forward(self, codes: Tensor) -> list[Tensor]:
        found = []
        for table, count, column in zip(self.tables, self.categories, codes.unbind(1), strict=True):
            own = nn.functional.one_hot(column, count).bool()[..., None]
            weight: Tensor = table.weight  # type: ignore[assignment]
            found.append(torch.where(own, weight[1], weight[0]).flatten(1))
        return found


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


def of_profiles(of_classes: Tensor, rows: Tensor | None) -> Tensor:
    """The rows of each profile's class; as they are where every profile has a row of its own."""
    return of_classes if rows is None else of_classes.index_select(0, rows)


def affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """``shift + scale * x``, by the operations that take least time with and without gradients."""
    if torch.is_grad_enabled():  # the gradient of addcmul is multiplied by its factor, which is 1
        return shift + scale * x
    return torch.addcmul(shift, scale, x)


class FiLMBlock(nn.Module):
    """Residual MLP block, shifted, scaled and gated by the condition.

    FiLM (Perez et al. 2018, arXiv:1709.07871) around a layer norm, as in Peebles and Xie (2023),
    arXiv:2212.09748.
    """

    identity: Tensor

    def __init__(self, width: int, condition_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(condition_dim, 3 * width)
        self.dense = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(width, width))
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        # scale and gate start at 1, shift at 0
        self.register_buffer("identity", torch.tensor([0.0, 1.0, 1.0]).repeat_interleave(width), persistent=False)

    def forward(self, h: Tensor, condition: Tensor, rows: Tensor | None = None) -> Tensor:
        shift, scale, gate = of_profiles(self.modulation(condition) + self.identity, rows).chunk(3, dim=1)
        return affine(self.dense(affine(self.norm(h), scale, shift)), gate, h)


class FiLMNetwork(nn.Module):
    """Ours: residual MLP under FiLM by time and conditions; the output starts at zero."""

    def __init__(self, n_in: int, n_out: int, categories: Sequence[int], options: NetworkOptions) -> None:
        super().__init__()
        self.time = SinusoidalTime(options.embedding_dim)
        self.labels = LabelEmbedding(categories, options.embedding_dim)
        self.into = DenseLayer(n_in, options.width)
        self.blocks = nn.ModuleList(
            FiLMBlock(options.width, options.embedding_dim, options.dropout) for _ in range(options.depth)
        )
        self.norm = nn.LayerNorm(options.width)
        self.out = DenseLayer(options.width, n_out)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, x: Tensor, time: Tensor, codes: Tensor, rows: Tensor | None = None, gain: Tensor | None = None
    ) -> Tensor:
        condition = nn.functional.silu(self.time(time) + sum(self.labels(codes)))
        if gain is not None and len(gain) == 1 and self.into.out_features <= len(x) and x.device.type == "cpu":
            h = nn.functional.linear(x, self.into.weight * gain, self.into.bias)  # there is less to multiply
        else:
            h = self.into(x if gain is None else x * gain)
        for block in self.blocks:
            h = block(h, condition, rows)
        return self.out(nn.functional.silu(self.norm(h)))


class PaperLayer(nn.Module):
    """Dense layer of [layer norm of [h, time], labels], then layer norm, ReLU and dropout."""

    def __init__(self, n_in: int, n_labels: int, width: int, dropout: float) -> None:
        super().__init__()
        self.before = nn.LayerNorm(n_in + 1, eps=PAPER_EPS)
        self.dense = DenseLayer(n_in + 1 + n_labels, width)
        self.after = nn.Sequential(nn.LayerNorm(width, eps=PAPER_EPS), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, h: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        h = self.before(torch.cat([h, time], dim=1))
        return self.after(self.dense(torch.cat([h, labels], dim=1)))


class PaperBlock(nn.Module):
    """Two ``PaperLayer`` and a shortcut, which is dense over [h, labels] where the width changes."""

    def __init__(self, n_in: int, n_labels: int, width: int, dropout: float) -> None:
        super().__init__()
        self.first = PaperLayer(n_in, n_labels, width, dropout)
        self.second = PaperLayer(width, n_labels, width, dropout)
        self.shortcut = DenseLayer(n_in + n_labels, width) if n_in != width else None

    def forward(self, h: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        direct = h if self.shortcut is None else self.shortcut(torch.cat([h, labels], dim=1))
        return direct + self.second(self.first(h, time, labels), time, labels)


class PaperNetwork(nn.Module):
    """The denoiser of Lacan et al., as in their code: ``depth`` residual blocks of two dense layers with layer norm.

    Time enters every dense layer as one number, labels as ``embedding_dim`` numbers per class after SiLU. Their time is
    that of the step before, so ``time_shift`` is 1 / T.
    """

    def __init__(self, n_in: int, n_out: int, categories: Sequence[int], options: NetworkOptions) -> None:
        super().__init__()
        self.time_shift = options.time_shift
        self.labels = IndicatorEmbedding(categories, options.embedding_dim)
        widths = [n_in] + [options.width] * options.depth
        self.blocks = nn.ModuleList(
            PaperBlock(n, self.labels.width, width, options.dropout) for n, width in pairwise(widths)
        )
        self.norm = nn.LayerNorm(options.width, eps=PAPER_EPS)
        self.out = DenseLayer(options.width, n_out)

    def forward(
        self, x: Tensor, time: Tensor, codes: Tensor, rows: Tensor | None = None, gain: Tensor | None = None
    ) -> Tensor:
        labels = of_profiles(nn.functional.silu(torch.cat(self.labels(codes), dim=1)), rows)
        h, time = x if gain is None else x * gain, (time[:, None] - self.time_shift).to(x.dtype).expand(len(x), 1)
        for block in self.blocks:
            h = block(h, time, labels)
        return self.out(nn.functional.silu(self.norm(h)))


def build_network(n_in: int, n_out: int, categories: Sequence[int], options: NetworkOptions) -> nn.Module:
    """The network ``options`` names, for the given number of categories per condition.

    Its forward takes x (n, n_in), time (n,) float in [0, 1], or (1,) for all, and codes (n, n_conditions) int64, and
    returns (n, n_out). Profiles of one time may share the codes of their class: ``codes`` then has a row per class, and
    ``rows`` (n,) int64 says which one is a profile's. ``gain``, (n, n_in) or (1, n_in), is multiplied into x.
    """
    kinds = {"film": FiLMNetwork, "paper": PaperNetwork}
    return kinds[options.kind](n_in, n_out, categories, options)
