"""Losses of single profiles under a trained model: what somebody who has the model itself can read off it."""

from __future__ import annotations

import anndata as ad
import numpy as np
import torch

from transcriptome_diffusion.expression.profiles import dense, require_same_genes
from transcriptome_diffusion.expression.reference import divide, log_likelihoods
from transcriptome_diffusion.generators.base import Generator
from transcriptome_diffusion.generators.class_gaussian import ClassGaussian
from transcriptome_diffusion.generators.diffusion.model import LOSS_TIMES, DenoisingGenerator
from transcriptome_diffusion.generators.vae import VAE

#: draws of a VAE's latent noise over which the loss of a profile is averaged
DRAWS = 32
NAMES = ("loss_attack", "loss_attack_relative")


def profile_losses(
    model: Generator, profiles: ad.AnnData, seed: int = 0
) -> dict[str, tuple[np.ndarray, tuple[float, ...]]]:
    """The losses of every profile that an attack can use, by the name of the attack, and the times they are taken at.

    A denoiser has its training loss at ``LOSS_TIMES``, a VAE the bound that it is trained on; ``loss_attack_relative``
    is the same less the loss of a network whose output is zero, which says how hard a profile is for anybody (Watson et
    al. 2022, arXiv:2111.08440). The class Gaussian has the negative log density, up to a constant of the class. Other
    generators have none: the critic of a WGAN-GP is not kept.

    Args:
        profiles: (n, n_genes) of classes that the model knows, in its unit. seed: of noise, the same for all profiles.

    Returns:
        Losses (n, n_times) float64, lower where the model fits a profile better; a loss without times has the time 0.

    Raises:
        ValueError: if genes differ or a class is unknown.
    """
    if isinstance(model, DenoisingGenerator):
        return {
            name: (model.per_profile_loss(profiles, seed, LOSS_TIMES, relative=relative).astype(float), LOSS_TIMES)
            for name, relative in zip(NAMES, (False, True), strict=True)
        }
    require_same_genes(profiles, model.genes.index, model.name)
    if isinstance(model, VAE):
        return {name: (losses, (0.0,)) for name, losses in zip(NAMES, _bounds(model, profiles, seed), strict=True)}
    if isinstance(model, ClassGaussian):
        return {"loss_attack": (_density(model, profiles)[:, None], (0.0,))}
    return {}


@torch.no_grad()
def _bounds(model: VAE, profiles: ad.AnnData, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The loss of every profile, with the same latent noise for all, and what it gains on an output of zero; (n, 1)."""
    network, codes = model.network.eval(), torch.from_numpy(model.conditions.to_codes(profiles.obs))
    u = network.coordinates.to_coordinates(torch.from_numpy(dense(profiles)), codes)
    generator = torch.Generator().manual_seed(seed)
    epsilon = torch.randn((DRAWS, network.options.latent_dim), generator=generator)
    rows = zip(u.split(1), codes.split(1), strict=True)
    losses = [network.terms(x.expand(DRAWS, -1), c.expand(DRAWS, -1), epsilon)["loss"].item() for x, c in rows]
    of_zero = u.square().mean(dim=1, keepdim=True).numpy() * (1 if network.options.loss == "means" else 0.5)
    bounds = np.array(losses)[:, None]
    return bounds, bounds - of_zero


def _density(model: ClassGaussian, profiles: ad.AnnData) -> np.ndarray:
    """The negative log density of every profile in its class (n,), up to a constant of the class."""
    classes = model.classes.find(model.conditions.to_codes(profiles.obs), model.conditions)
    z = divide(dense(profiles).astype(float) - model.means[classes], model.scale.astype(float))
    found = np.empty(len(z))
    for c in np.unique(classes):
        own = classes == c
        rows = model.weights[c, 0] * model.residuals[slice(*model.rows[c])].astype(float)
        found[own] = -log_likelihoods(z[own], rows, float(model.weights[c, 1]) ** 2, (0.0,))[0]
    return found
