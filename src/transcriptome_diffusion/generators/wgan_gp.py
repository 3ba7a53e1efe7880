"""A conditional Wasserstein GAN with gradient penalty."""

from __future__ import annotations

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
from transcriptome_diffusion.generators.options import LatentOptions, WGANGPOptions

#: a critic whose estimate exceeds its bound by this factor has diverged
EXPLODED = 3.0


class GeneratorNetwork(LatentNetwork):
    """Latent noise and labels to coordinates; every layer sees the labels.

    With a preconditioner it corrects a draw from its Gaussian: ``u = sd * (exp(gain) * e + shift)``, where
    ``shift, gain = network(first entries of e, labels)`` start at zero. The latent noise is then that of the leading
    coordinates.
    """

    def __init__(self, coordinates: Coordinates, categories: Sequence[int], options: WGANGPOptions) -> None:
        super().__init__()
        self.coordinates = coordinates
        width = coordinates.width
        self.latent_dim = options.latent_dim if coordinates.variance is None else min(options.latent_dim, width)
        self.body = LabelledMLP(
            self.latent_dim,
            options.hidden,
            width if coordinates.variance is None else 2 * width,
            categories,
            options.embedding_dim,
            options.dropout,
            options.batch_norm,
            **paper_layers(categories, options),
        )
        if coordinates.variance is not None:
            nn.init.zeros_(self.body.out.weight)
            nn.init.zeros_(self.body.out.bias)

    def draw(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        variance, width = self.coordinates.variance, self.coordinates.width
        shape = (len(codes), self.latent_dim if variance is None else width)
        noise = torch.randn(shape, generator=generator, device=generator.device).to(codes.device)
        drawn = self.body(noise[:, : self.latent_dim], codes).float()
        if variance is None:
            return drawn
        shift, gain = drawn.chunk(2, dim=1)
        # far beyond any difference between classes; it only keeps a diverging generator finite
        return variance.sqrt() * (gain.clamp(-3, 3).exp() * noise + shift)


class AdversarialObjective(nn.Module):
    """Generator and critic as they are trained: Gulrajani et al. (2017), arXiv:1704.00028, Algorithm 1."""

    scale: Tensor

    def __init__(self, network: GeneratorNetwork, categories: Sequence[int], options: WGANGPOptions) -> None:
        super().__init__()
        self.options, self.network = options, network
        self.critic_steps, self.critic_learning_rate = options.critic.steps, options.critic.learning_rate
        self.critic = LabelledMLP(
            network.coordinates.width,
            options.critic.hidden,
            1,
            categories,
            options.embedding_dim,
            options.critic.dropout,
            batch_norm=False,
            **paper_layers(categories, options),
        )
        variance = network.coordinates.variance
        self.register_buffer("scale", torch.ones(()) if variance is None else variance.mean().sqrt())

    def critic_value(self, u: Tensor, codes: Tensor) -> Tensor:
        """The critic's value of scaled coordinates, (n, 1); high means real."""
        return self.critic(u, codes).float()

    def critic_loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> dict[str, Tensor]:
        """Negative Wasserstein estimate plus penalty; ``distance`` bounds what a 1-Lipschitz critic can reach."""
        real, codes = batch
        with torch.no_grad():
            real = self.network.coordinates.match_held_out_variance(real, generator) / self.scale
            fake = self.network.draw(codes, generator) / self.scale
        # in one pass: the critic normalises no batch, so a value does not depend on the other profiles
        of_real, of_fake = self.critic_value(torch.cat([real, fake]), codes.repeat(2, 1)).chunk(2)
        wasserstein = of_real.mean() - of_fake.mean()
        share = torch.rand((len(real), 1), generator=generator, device=real.device)
        between = (share * real + (1 - share) * fake).requires_grad_()
        (gradient,) = torch.autograd.grad(self.critic_value(between, codes).sum(), between, create_graph=True)
        penalty = (gradient.norm(dim=1) - 1).square().mean()
        return {
            "loss": self.options.critic.gradient_penalty * penalty - wasserstein,
            "wasserstein": wasserstein,
            "gradient_penalty": penalty,
            "distance": (real - fake).norm(dim=1).mean(),
        }

    def training_loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        _, codes = batch
        return -self.critic_value(self.network.draw(codes, generator) / self.scale, codes).mean()

    def validation_loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Energy score of the draws given each held-out profile's labels, in scaled coordinates.

        ``E|x - g| - E|g - g'| / 2`` for independent draws g, g' under the labels of x; strictly proper, so that
        the true conditional distribution has the lowest expectation: Gneiting and Raftery (2007),
        doi:10.1198/016214506000001437. The noise is the same at every call.
        """
        u, codes = batch
        generator = torch.Generator().manual_seed(0)
        repeats = self.options.validation_repeats
        drawn = self.network.draw(codes.repeat_interleave(repeats, 0), generator).unflatten(0, (len(u), repeats))
        to_real = torch.cdist(u[:, None], drawn).mean()
        apart = torch.cdist(drawn, drawn).sum() / (len(u) * repeats * (repeats - 1))
        return (to_real - apart / 2) / self.scale

    def trouble(self, means: dict[str, float]) -> str | None:
        """Whether the critic's estimate is beyond what any 1-Lipschitz function could reach."""
        if abs(means["wasserstein"]) <= EXPLODED * means["distance"]:
            return None
        return (
            f"the critic exploded: its Wasserstein estimate is {means['wasserstein']:.3g}, although real and "
            f"generated profiles are {means['distance']:.3g} apart (lower `critic.learning_rate` or raise "
            "`critic.gradient_penalty`)"
        )


class WGANGP(LatentGenerator):
    """Conditional Wasserstein GAN with gradient penalty; Gulrajani et al. (2017), arXiv:1704.00028."""

    name: ClassVar[str] = "wgan_gp"
    options: ClassVar[type[LatentOptions]] = WGANGPOptions

    network: GeneratorNetwork

    @classmethod
    def build_network(
        cls, coordinates: Coordinates, categories: Sequence[int], options: WGANGPOptions
    ) -> GeneratorNetwork:
        return GeneratorNetwork(coordinates, categories, options)

    @classmethod
    def to_train(cls, coordinates: Coordinates, categories: Sequence[int], options: WGANGPOptions) -> nn.Module:
        return AdversarialObjective(cls.build_network(coordinates, categories, options), categories, options)

    def train_network(
        self, train: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], options: WGANGPOptions
    ) -> None:
        from transcriptome_diffusion import training

        objective = AdversarialObjective(self.network, self.conditions.sizes, options)
        self.record = training.fit(objective, train, validation, options.training, options.seed, title=self.name)
