"""A conditional variational autoencoder that samples its decoder's noise, not only its mean."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from transcriptome_diffusion.generators.latent import (
    Coordinates,
    LabelledMLP,
    LatentGenerator,
    LatentNetwork,
    paper_layers,
)
from transcriptome_diffusion.generators.options import LatentOptions, VAEOptions

logger = logging.getLogger(__name__)

#: a latent dimension is in use if its posterior mean varies by more than this; Burda et al. (2016)
ACTIVE = 0.01
#: fewer dimensions in use than this are worth a warning
FEW = 3
#: draws per validation profile from which the noise is estimated
REPEATS = 32


class Autoencoder(LatentNetwork):
    """Encoder and decoder; every layer of both sees the labels.

    The loss of a profile is ``1/2 |u - decoder(z)|^2 + beta KL(q(z | u) || N(0, I))``. Divided by ``beta`` it is the
    evidence bound of a decoder with Gaussian noise of variance ``beta`` in every coordinate. Directions with a variance
    below ``beta`` are therefore left to the noise, and the latents represent the others. With ``loss: means`` it is
    the mean squared error of a coordinate plus ``beta`` times the mean divergence of a latent dimension, as in the code
    of Lacan et al.: the same bound with ``beta = width / (2 latent_dim)``, up to a factor.
    """

    noise: Tensor

    def __init__(self, coordinates: Coordinates, categories: Sequence[int], options: VAEOptions) -> None:
        super().__init__()
        self.options, self.coordinates = options, coordinates
        width, shape = coordinates.width, (categories, options.embedding_dim, options.dropout, options.batch_norm)
        paper = paper_layers(categories, options)
        # of the paper's layers the first see the labels, and the output of the encoder
        seen = [True] + [False] * (len(options.hidden) - 1) if paper else [True] * len(options.hidden)
        self.encoder = LabelledMLP(
            width, options.hidden, 2 * options.latent_dim, *shape, labelled=[*seen, True], **paper
        )
        self.decoder = LabelledMLP(
            options.latent_dim, options.hidden[::-1], width, *shape, labelled=[*seen, not paper], **paper
        )
        if paper:
            for layer in [*self.encoder.layers.modules(), *self.decoder.modules()]:
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_uniform_(layer.weight)
                    nn.init.constant_(layer.bias, 0.01)
        else:
            for layer in (self.encoder.out, self.decoder.out):  # starts near q = prior and at the class means
                layer.weight.data.mul_(0.1)
                layer.bias.data.zero_()
        self.register_buffer("noise", torch.zeros(width))

    @property
    def to_compile(self) -> Sequence[nn.Module]:
        return self.encoder, self.decoder

    def encode(self, u: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | u), (n, latent_dim) each."""
        mean, log_variance = self.encoder(u, codes).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-12, 6) if self.options.architecture == "default" else log_variance

    def terms(self, u: Tensor, codes: Tensor, epsilon: Tensor) -> dict[str, Tensor]:
        """The loss, its squared error per coordinate, and the divergence in nats per profile; epsilon as z."""
        mean, log_variance = self.encode(u, codes)
        z = mean + torch.exp(0.5 * log_variance) * epsilon
        squared = (self.decoder(z, codes).float() - u).square().sum(1).mean()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        width, beta = self.coordinates.width, self.options.beta
        if self.options.loss == "means":
            loss = squared / width + beta * kl / self.options.latent_dim
        else:
            loss = (squared / 2 + beta * kl) / width
        return {"loss": loss, "reconstruction": squared / width, "kl": kl}

    def training_loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> dict[str, Tensor]:
        u, codes = batch
        u = self.coordinates.match_held_out_variance(u, generator)
        shape = (len(u), self.options.latent_dim)
        return self.terms(u, codes, torch.randn(shape, generator=generator, device=u.device))

    def independent_loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        """The loss of profiles that the preconditioner was not fitted to; see ``dp_sgd.PrivatelyTrainable``."""
        u, codes = batch
        return self.terms(u, codes, torch.randn((len(u), self.options.latent_dim), generator=generator))["loss"]

    def validation_loss(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """The mean of ``validation_repeats`` draws of z, the same at every call."""
        u, codes = (t.repeat(self.options.validation_repeats, 1) for t in batch)
        epsilon = torch.randn((len(u), self.options.latent_dim), generator=torch.Generator().manual_seed(0))
        return self.terms(u, codes, epsilon.to(u.device))

    def draw(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        epsilon = torch.randn((len(codes), self.options.latent_dim + self.coordinates.width), generator=generator)
        z, e = epsilon.tensor_split([self.options.latent_dim], dim=1)
        return self.decoder(z, codes) + self.noise.sqrt() * e

    @torch.no_grad()
    def fit_noise(self, u: Tensor, codes: Tensor) -> None:
        """Estimate the decoder's noise from held-out donors; training donors would give too small a variance.

        On genes it is the squared error of ``u`` (n, width), which comes from validation donors. With a preconditioner
        it is the variance of held-out donors less that of decoded draws from the prior.
        """
        u, codes = u.repeat(REPEATS, 1), codes.repeat(REPEATS, 1)
        generator = torch.Generator().manual_seed(0)
        if (variance := self.coordinates.variance) is None:
            mean, log_variance = self.encode(u, codes)
            z = mean + torch.exp(0.5 * log_variance) * torch.randn(mean.shape, generator=generator)
            self.noise.copy_((self.decoder(z, codes) - u).square().mean(0))
        else:
            decoded = self.decoder(torch.randn((len(u), self.options.latent_dim), generator=generator), codes)
            self.noise.copy_((variance - decoded.square().mean(0)).clamp(min=0))


class VAE(LatentGenerator):
    """Conditional variational autoencoder: Kingma and Welling (2014), arXiv:1312.6114; Sohn et al. (2015)."""

    name: ClassVar[str] = "vae"
    options: ClassVar[type[LatentOptions]] = VAEOptions

    network: Autoencoder

    @classmethod
    def build_network(cls, coordinates: Coordinates, categories: Sequence[int], options: VAEOptions) -> Autoencoder:
        return Autoencoder(coordinates, categories, options)

    def train_network(
        self, train: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], options: VAEOptions
    ) -> None:
        from transcriptome_diffusion import training

        self.record = training.fit(self.network, train, validation, options.training, options.seed, title=self.name)
        with torch.no_grad():
            mean, _ = self.network.encode(*validation)
        in_use = int((mean.var(0) > ACTIVE).sum())
        self.record["latent_dimensions_in_use"] = in_use
        logger.info("vae: %d of %d latent dimensions are in use", in_use, options.latent_dim)
        if in_use < min(FEW, options.latent_dim):
            logger.warning(
                "vae: only %d of %d latent dimensions carry information about a profile (posterior collapse); "
                "lower `beta`, or train longer.",
                in_use,
                options.latent_dim,
            )
        if options.noise == "held_out":
            self.network.fit_noise(*validation)
