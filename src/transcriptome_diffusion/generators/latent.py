"""What generators that decode a latent Gaussian in one pass share: coordinates, labelled layers, fit and draw."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Self

import anndata as ad
import numpy as np
import torch
from torch import Tensor, nn

from transcriptome_diffusion.artefacts import ArtefactError
from transcriptome_diffusion.expression.profiles import dense
from transcriptome_diffusion.generators.base import Generator
from transcriptome_diffusion.generators.diffusion.network import LabelEmbedding
from transcriptome_diffusion.generators.diffusion.precondition import (
    GaussianSpace,
    fit_coordinates,
    learnt_coordinates,
    memory_to_fit,
)
from transcriptome_diffusion.generators.options import LatentOptions
from transcriptome_diffusion.generators.scaler import Scaler


class Coordinates(nn.Module):
    """Between profiles (n, n_genes) in their own unit and what a network works on, (n, width).

    Either the scaled genes or, with a ``space``, the first coordinates of a class-conditional Gaussian in the
    unit of a gene's within-class deviation, the same that the denoiser stands on. What varies along its other
    axes is drawn from that Gaussian: few profiles cannot show a network more.
    """

    def __init__(self, n_genes: int, space: GaussianSpace | None, learnt: int | None = None) -> None:
        super().__init__()
        self.scaler, self.space = Scaler(n_genes), space
        available = n_genes if space is None else space.width
        self.width = min(learnt or available, available)
        self.register_buffer("learnt", torch.tensor([self.width]))  # saved, since it follows from the training set

    @classmethod
    def fit(
        cls, x: np.ndarray, codes: np.ndarray, categories: Sequence[int], donors: np.ndarray, options: LatentOptions
    ) -> tuple[Self, Tensor]:
        """The coordinates for training profiles x (n, n_genes), and those profiles as ``widen`` takes them."""
        loudness = options.loudness if options.space == "gaussian" else None
        scaler, space, u = fit_coordinates(x, codes, categories, donors, options.scaling, loudness)
        learnt = None
        if space is not None:
            learnt = learnt_coordinates(space, len(x), options.learnt_axes, options.learnt_variance)
        coordinates = cls(x.shape[1], space, learnt)
        coordinates.scaler = scaler
        return coordinates, u

    def encode(self, x: Tensor, codes: Tensor) -> Tensor:
        """Coordinates (n, width) of profiles of other donors than those of training."""
        z = self.scaler(x)
        return z if self.space is None else self.space.encode(z, codes)[:, : self.width]

    def decode(self, u: Tensor, codes: Tensor, generator: torch.Generator) -> Tensor:
        """Profiles for coordinates (n, width); ``generator`` fills the directions that these leave open."""
        if self.space is not None:
            rest = self.space.variance[self.width :].sqrt()
            u = torch.cat([u, rest * torch.randn((len(u), len(rest)), generator=generator)], dim=1)
            noise = torch.randn((len(u), len(self.scaler.centre)), generator=generator)
            u = self.space.decode(u, codes, noise)
        return self.scaler.inverse(u)

    def widen(self, u: Tensor, generator: torch.Generator) -> Tensor:
        """Training profiles' coordinates (n, width) with the variance of other donors along the axes of a space."""
        if self.space is None:
            return u
        return self.space.widen(u, torch.randn(u.shape, generator=generator, device=u.device))[:, : self.width]

    @property
    def variance(self) -> Tensor | None:
        """Variance of other donors along each coordinate, (width,); None for genes."""
        return None if self.space is None else self.space.variance[: self.width]


class LabelledMLP(nn.Module):
    """Dense layers with leaky ReLU, each of which sees the embedded labels beside its input.

    Args:
        n_in, hidden, n_out: widths of the input, the hidden layers and the output.
        categories: number of categories per condition.
        batch_norm: whether hidden layers are normalised; never in a critic, whose penalty is per row.
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
    ) -> None:
        super().__init__()
        self.labels = LabelEmbedding(categories, embedding_dim)
        n_labels = embedding_dim * len(categories)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(n + n_labels, width),
                nn.BatchNorm1d(width) if batch_norm else nn.Identity(),
                nn.LeakyReLU(0.2),
                nn.Dropout(dropout),
            )
            for n, width in pairwise([n_in, *hidden])
        )
        self.out = nn.Linear([n_in, *hidden][-1] + n_labels, n_out)

    def forward(self, h: Tensor, codes: Tensor) -> Tensor:
        """(n, n_out) for h (n, n_in) and codes (n, n_conditions)."""
        labels = torch.cat(self.labels(codes), dim=1)
        for layer in self.layers:
            h = layer(torch.cat([h, labels], dim=1))
        return self.out(torch.cat([h, labels], dim=1))


class LatentNetwork(nn.Module, ABC):
    """A network that draws coordinates, and the coordinates it draws."""

    coordinates: Coordinates

    @abstractmethod
    def draw(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        """Random coordinates (n, width) for codes (n, n_conditions); all randomness comes from ``generator``."""


class LatentGenerator(Generator):
    """A generator whose ``network`` turns latent noise and labels into coordinates."""

    options: ClassVar[type[LatentOptions]]

    network: LatentNetwork

    @classmethod
    def fit(cls, train: ad.AnnData, validation: ad.AnnData, options: LatentOptions) -> Self:
        """Train the network; validation donors choose the step whose averaged weights are kept.

        Raises:
            ValueError: on unknown labels or differing genes.
            TrainingDivergedError: if training breaks down before its first healthy validation.
        """
        model = cls(**cls._common(train, validation, options))
        x, codes = dense(train), model.conditions.encode(train.obs)
        donors = train.obs.get("donor", train.obs_names).to_numpy()
        coordinates, u = Coordinates.fit(x, codes, model.conditions.sizes, donors, options)
        codes_other = torch.from_numpy(model.conditions.encode(validation.obs))
        u_other = coordinates.encode(torch.from_numpy(dense(validation)), codes_other)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            model.network = cls._build(coordinates, model.conditions.sizes, options)
            model._train((u, torch.from_numpy(codes)), (u_other, codes_other), options)
        return model

    @classmethod
    def _memory_to_fit(cls, profiles: int, others: int, genes: int, options: LatentOptions) -> float:
        if options.space == "gaussian":
            return memory_to_fit(profiles, genes)
        return (12.0 * profiles + 45.0 * options.validation_repeats * others) * genes

    @classmethod
    @abstractmethod
    def _build(cls, coordinates: Coordinates, categories: Sequence[int], options: LatentOptions) -> LatentNetwork:
        """The untrained network."""

    @abstractmethod
    def _train(self, train: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], options: LatentOptions) -> None:
        """Train ``network`` on coordinates and codes, and write ``record``."""

    @torch.no_grad()
    def _draw(self, codes: np.ndarray, seed: int, batch_size: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(seed)
        self.network.eval()
        values = np.empty((len(codes), len(self.genes)), dtype=np.float32)
        for start in range(0, len(codes), batch_size):
            chosen = torch.from_numpy(codes[start : start + batch_size])
            u = self.network.draw(chosen, generator)
            values[start : start + batch_size] = self.network.coordinates.decode(u, chosen, generator).numpy()
        return values

    def _state(self) -> dict[str, np.ndarray]:
        return {name: tensor.numpy() for name, tensor in self.network.state_dict().items()}

    def _restore(self, tensors: dict[str, np.ndarray]) -> None:
        options, counts = self.options.model_validate(self.settings), self.conditions.sizes
        space, learnt = None, None
        try:
            if options.space == "gaussian":
                space = GaussianSpace(counts, len(self.genes), len(tensors["coordinates.space.slope"]))
                learnt = int(tensors["coordinates.learnt"][0])
            self.network = self._build(Coordinates(len(self.genes), space, learnt), counts, options)
            self.network.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
        except (KeyError, RuntimeError) as error:
            raise ArtefactError(
                f"the weights do not fit the settings beside them ({error}); train the model again."
            ) from error
