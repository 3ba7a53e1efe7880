"""What generators share that decode a latent Gaussian in one pass: coordinates, labelled layers, fit and sampling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar, Self

import anndata as ad
import numpy as np
import torch
from torch import Tensor, nn

from transcriptome_diffusion.devices import memory_to_train, seeded
from transcriptome_diffusion.expression.profiles import dense
from transcriptome_diffusion.generators.base import Generator
from transcriptome_diffusion.generators.diffusion.network import IndicatorEmbedding, LabelEmbedding
from transcriptome_diffusion.generators.diffusion.precondition import (
    Preconditioner,
    fit_coordinates,
    memory_to_fit,
)
from transcriptome_diffusion.generators.options import LatentOptions
from transcriptome_diffusion.generators.scaler import Scaler
from transcriptome_diffusion.layers import DenseLayer


class Coordinates(nn.Module):
    """Between profiles (n, n_genes) in their own unit and what a network works on, (n, width).

    These are the scaled genes or, with a ``preconditioner``, its first ``n_components`` coordinates. The other
    coordinates are drawn from its Gaussian: the training profiles are too few for a network to model them.
    """

    def __init__(self, n_genes: int, preconditioner: Preconditioner | None, n_components: int | None = None) -> None:
        super().__init__()
        self.scaler, self.preconditioner = Scaler(n_genes), preconditioner
        available = n_genes if preconditioner is None else preconditioner.width
        self.width = min(n_components or available, available)
        # saved, since it depends on the training set
        self.register_buffer("n_components", torch.tensor([self.width]))

    @classmethod
    def fit(
        cls, x: np.ndarray, codes: np.ndarray, categories: Sequence[int], donors: np.ndarray, options: LatentOptions
    ) -> tuple[Self, Tensor]:
        """The coordinates for training profiles x (n, n_genes), and x as ``match_held_out_variance`` takes it."""
        fitted = fit_coordinates(x, codes, categories, donors, options)
        coordinates = cls(x.shape[1], fitted.preconditioner, fitted.n_components)
        coordinates.scaler = fitted.scaler
        return coordinates, fitted.u

    def to_coordinates(self, x: Tensor, codes: Tensor) -> Tensor:
        """Coordinates (n, width) of profiles of other donors than those of training."""
        z = self.scaler(x)
        return z if self.preconditioner is None else self.preconditioner.to_coordinates(z, codes)[:, : self.width]

    def from_coordinates(self, u: Tensor, codes: Tensor, generator: torch.Generator) -> Tensor:
        """Profiles for coordinates (n, width); ``generator`` draws the coordinates and directions that u lacks."""
        if self.preconditioner is not None:
            rest = self.preconditioner.variance[self.width :].sqrt()
            u = torch.cat([u, rest * torch.randn((len(u), len(rest)), generator=generator)], dim=1)
            noise = torch.randn((len(u), len(self.scaler.centre)), generator=generator)
            u = self.preconditioner.from_coordinates(u, codes, noise)
        return self.scaler.inverse(u)

    def match_held_out_variance(self, u: Tensor, generator: torch.Generator) -> Tensor:
        """Training coordinates (n, all) with the variance of held-out donors, (n, width); genes are left unchanged."""
        if self.preconditioner is None:
            return u
        noise = torch.randn(u.shape, generator=generator, device=u.device)
        return self.preconditioner.match_held_out_variance(u, noise)[:, : self.width]

    @property
    def variance(self) -> Tensor | None:
        """Variance of held-out donors along each coordinate, (width,); None for genes."""
        return None if self.preconditioner is None else self.preconditioner.variance[: self.width]


class LabelledMLP(nn.Module):
    """Dense layers with leaky ReLU, which see the embedded labels beside their input.

    Args:
        n_in, hidden, n_out: widths of the input, the hidden layers and the output.
        categories: number of categories per condition.
        batch_norm: whether hidden layers are normalised; never in a critic, whose penalty is per row.
        slope: of the leaky ReLU below zero.
        labels: the embedding, where it is shared or not a ``LabelEmbedding`` of ``embedding_dim``.
        labelled: which dense layers see the labels, the output last; None: all.
    """

    def __init__(
        self,
        n_in: int,
        hidden: Sequence[int],
        n_out: int,
        categories: Sequence[int],
        embedding_dim: int,
        dropout: float,
        batch_norm: bool,
        slope: float = 0.2,
        labels: LabelEmbedding | IndicatorEmbedding | None = None,
        labelled: Sequence[bool] | None = None,
    ) -> None:
        super().__init__()
        self.labels = labels or LabelEmbedding(categories, embedding_dim)
        self.labelled = tuple(labelled or [True] * (len(hidden) + 1))
        n_labels = [self.labels.width * seen for seen in self.labelled]
        self.layers = nn.ModuleList(
            nn.Sequential(
                DenseLayer(n + more, width),
                nn.BatchNorm1d(width) if batch_norm else nn.Identity(),
                nn.LeakyReLU(slope),
                nn.Dropout(dropout),
            )
            for (n, width), more in zip(pairwise([n_in, *hidden]), n_labels[:-1], strict=True)
        )
        self.out = DenseLayer([n_in, *hidden][-1] + n_labels[-1], n_out)

    def forward(self, h: Tensor, codes: Tensor) -> Tensor:
        """(n, n_out) for h (n, n_in) and codes (n, n_conditions)."""
        labels = torch.cat(self.labels(codes), dim=1)
        for layer, seen in zip([*self.layers, self.out], self.labelled, strict=True):
            h = layer(torch.cat([h, labels], dim=1) if seen else h)
        return h


def paper_layers(categories: Sequence[int], options: LatentOptions) -> dict[str, Any]:
    """What the layers of Lacan et al. have in place of ours, as arguments of ``LabelledMLP``; nothing for ours."""
    if options.architecture == "default":
        return {}
    return {"slope": 0.05, "labels": IndicatorEmbedding(categories, options.embedding_dim)}


class LatentNetwork(nn.Module, ABC):
    """A network that draws coordinates; ``coordinates`` turn them into profiles."""

    coordinates: Coordinates

    @abstractmethod
    def draw(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        """Random coordinates (n, width) for codes (n, n_conditions); all randomness comes from ``generator``."""


class LatentGenerator(Generator):
    """A generator whose ``network`` turns latent noise and labels into coordinates.

    A subclass writes ``build_network`` and ``train_network``.
    """

    options: ClassVar[type[LatentOptions]]

    network: LatentNetwork

    @classmethod
    def fit_model(cls, train: ad.AnnData, validation: ad.AnnData, options: LatentOptions) -> Self:
        """Train the network; validation donors choose the step whose averaged weights are kept.

        Raises:
            ValueError: on unknown labels or differing genes.
            TrainingDivergedError: if training breaks down before its first healthy validation.
        """
        model = cls(**cls.checked(train, validation, options))
        x, codes = dense(train), model.conditions.to_codes(train.obs)
        donors = train.obs.get("donor", train.obs_names).to_numpy()
        coordinates, u = Coordinates.fit(x, codes, model.conditions.sizes, donors, options)
        codes_other = torch.from_numpy(model.conditions.to_codes(validation.obs))
        u_other = coordinates.to_coordinates(torch.from_numpy(dense(validation)), codes_other)
        with seeded(options.seed):
            model.network = cls.build_network(coordinates, model.conditions.sizes, options)
            model.train_network((u, torch.from_numpy(codes)), (u_other, codes_other), options)
        return model

    @classmethod
    @abstractmethod
    def build_network(cls, coordinates: Coordinates, categories: Sequence[int], options: Any) -> LatentNetwork:
        """The untrained network, for the number of categories of each condition."""

    @abstractmethod
    def train_network(self, train: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], options: Any) -> None:
        """Train ``network`` on coordinates (n, width) and codes (n, n_conditions), and write ``record``."""

    @classmethod
    def memory_to_fit(cls, profiles: int, others: int, genes: int, options: LatentOptions) -> float:
        if options.preconditioned:
            return memory_to_fit(profiles, genes)
        if options.train_on == "train_and_validation":
            profiles += others
        network = memory_to_train(
            lambda: cls.to_train(Coordinates(genes, None), [2] * len(options.conditions), options)
        )
        return (12.0 * profiles + 45.0 * options.validation_repeats * others) * genes + network

    @classmethod
    def to_train(cls, coordinates: Coordinates, categories: Sequence[int], options: Any) -> nn.Module:
        """All that is trained: the network, and with it what is not kept."""
        return cls.build_network(coordinates, categories, options)

    @torch.no_grad()
    def sample_codes(self, codes: np.ndarray, seed: int, batch_size: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(seed)
        self.network.eval()
        values = np.empty((len(codes), len(self.genes)), dtype=np.float32)
        for start in range(0, len(codes), batch_size):
            chosen = torch.from_numpy(codes[start : start + batch_size])
            u = self.network.draw(chosen, generator)
            profiles = self.network.coordinates.from_coordinates(u, chosen, generator)
            values[start : start + batch_size] = profiles.numpy()
        return values

    def state(self) -> dict[str, np.ndarray]:
        return {name: tensor.numpy() for name, tensor in self.network.state_dict().items()}

    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        options, counts = self.options.model_validate(self.settings), self.conditions.sizes
        coordinates = Coordinates(len(self.genes), None)
        if options.preconditioned:
            rank = len(tensors["coordinates.preconditioner.exponent"])
            preconditioner = Preconditioner(counts, len(self.genes), rank)
            coordinates = Coordinates(len(self.genes), preconditioner, int(tensors["coordinates.n_components"][0]))
        self.network = self.build_network(coordinates, counts, options)
        self.network.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
