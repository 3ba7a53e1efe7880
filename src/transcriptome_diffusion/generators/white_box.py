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


def profile_losses(
    model: Generator, profiles: ad.AnnData, seed: int = 0
) -> dict[str, tuple[np.ndarray, tuple[float, ...]]]:
    """The losses of every profile that an attack can use, by the name of the attack, and the times they are taken at.

    A denoiser has its training loss at ``LOSS_TIMES``, and the same less the loss of a network whose output is zero
    (``per_profile_loss``). A VAE has the bound that it is trained on. The class Gaussian has the negative log density,
    up to a constant of the class. Other generators have none: the critic of a WGAN-GP is not kept.

    Args:
        profiles: (n, n_genes) of classes that the model knows, in its unit. seed: of noise, the same for all profiles.

    Returns:
        Losses (n, n_times) float64, lower where the model fits a profile better; a loss without times has the time 0.

    Raises:
        ValueError: if genes differ or a class is unknown.
    """
    if isinstance(model, DenoisingGenerator):
        kinds = {"loss_attack": False, "loss_attack_relative": True}
        return {
            name: (model.per_profile_loss(profiles, seed, LOSS_TIMES, relative=relative).astype(float), LOSS_TIMES)
            for name, relative in kinds.items()
        }
    require_same_genes(profiles, model.genes.index, model.name)
    if isinstance(model, VAE):
        return {"loss_attack": (_bound(model, profiles, seed)[:, None], (0.0,))}
    if isinstance(model, ClassGaussian):
        return {"loss_attack": (_density(model, profiles)[:, None], (0.0,))}
    return {}


@torch.no_grad()
def _bound(model: VAE, profiles: ad.AnnData, seed: int) -> np.ndarray:
    """The loss of every profile (n,), with the same latent noise for all."""
    network, codes = model.network.eval(), torch.from_numpy(model.conditions.to_codes(profiles.obs))
    u = network.coordinates.to_coordinates(torch.from_numpy(dense(profiles)), codes)
    generator = torch.Generator().manual_seed(seed)
    epsilon = torch.randn((DRAWS, network.options.latent_dim), generator=generator)
    rows = zip(u.split(1), codes.split(1), strict=True)
    return np.array([network.terms(x.expand(DRAWS, -1), c.expand(DRAWS, -1), epsilon)["loss"].item() for x, c in rows])


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
