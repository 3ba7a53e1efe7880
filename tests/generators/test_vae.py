"""The variational autoencoder: its loss, its noise, its latents, and when it admits to a collapse."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from test_contract import GENES, cohort, labels

from transcriptome_diffusion.generators.latent import Coordinates
from transcriptome_diffusion.generators.options import VAEOptions
from transcriptome_diffusion.generators.vae import VAE, Autoencoder

TRAINING = {"max_steps": 150, "validate_every": 50, "batch_size": 64, "learning_rate": 6e-3, "precision": "float32"}


def options(**settings: Any) -> VAEOptions:
    small = {"conditions": ["tissue", "sex"], "hidden": [32], "latent_dim": 4, "embedding_dim": 4}
    return VAEOptions.model_validate({"marginal_map": False, **small, "training": TRAINING, **settings})


def factor_cohort(n: int, seed: int) -> Any:
    """The contract's cohort with one strong factor along all genes."""
    found = cohort(n, seed)
    factor = np.random.default_rng(seed + 100).normal(size=(n, 1))
    found.X = (found.X + 2.0 * factor).astype(np.float32)
    return found


def autoencoder(**settings: Any) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(Coordinates(6, None), [2], options(space="genes", **settings)).eval()


def test_the_loss_is_half_the_squared_error_plus_beta_times_the_divergence() -> None:
    model = autoencoder(beta=3.0)
    u, codes = torch.randn(50, 6), torch.zeros(50, 1, dtype=torch.int64)
    epsilon = torch.randn(50, 4)
    mean, log_variance = model.encode(u, codes)
    posterior = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    decoded = model.decoder(mean + posterior.stddev * epsilon, codes)
    found = model.terms(u, codes, epsilon)
    torch.testing.assert_close(found["kl"], kl)
    torch.testing.assert_close(found["reconstruction"], (u - decoded).square().mean())
    torch.testing.assert_close(found["loss"], (0.5 * (u - decoded).square().sum(1).mean() + 3 * kl) / 6)


def test_beta_decides_how_large_a_factor_has_to_be_for_a_latent() -> None:
    """Linear theory (Lucas et al. 2019, arXiv:1911.02469): directions that vary less than beta get no latent."""
    train, validation = factor_cohort(600, 1), factor_cohort(150, 2)
    # in units of the genes' own deviation the factor varies by more than 5, all else by less than 2
    small, large = (VAE.fit(train, validation, options(beta=beta)).record for beta in (2.0, 30.0))
    assert small["latent_dimensions_in_use"] >= 1
    assert large["latent_dimensions_in_use"] == 0


def test_a_collapse_is_told_and_samples_are_still_right(caplog: pytest.LogCaptureFixture) -> None:
    train, validation = factor_cohort(600, 1), factor_cohort(150, 2)
    with caplog.at_level(logging.WARNING):
        model = VAE.fit(train, validation, options(beta=1000.0))
    assert "only 0 of 4 latent dimensions carry information" in caplog.text
    drawn = model.sample(labels(2000), seed=0).X
    mine = train.X[(train.obs["tissue"] == "liver") & (train.obs["sex"] == "f")]
    assert drawn.std(0) == pytest.approx(mine.std(0), rel=0.25)


@pytest.mark.parametrize("space", ["gaussian", "genes"])
def test_the_decoders_noise_gives_samples_the_spread_that_its_mean_lacks(space: str) -> None:
    train, validation = factor_cohort(600, 1), factor_cohort(150, 2)
    mine = train.X[(train.obs["tissue"] == "liver") & (train.obs["sex"] == "f")].var(0).sum()
    spread = {}
    for noise in ("held_out", "none"):
        # few axes are left out, since these are drawn with their noise in any case
        model = VAE.fit(train, validation, options(space=space, noise=noise, beta=1.0, components_per_sample=1.0))
        spread[noise] = model.sample(labels(2000), seed=0).X.var(0).sum() / mine
    assert spread["held_out"] == pytest.approx(1, abs=0.15)
    assert spread["none"] < 0.9 * spread["held_out"]


def test_on_genes_the_noise_is_what_the_decoder_leaves_of_other_donors() -> None:
    model = autoencoder()
    model.decoder.out.weight.data.zero_()
    u = torch.randn(4000, 6) * torch.arange(1, 7)
    model.fit_noise(u, torch.zeros(4000, 1, dtype=torch.int64))
    torch.testing.assert_close(model.noise, u.square().mean(0), rtol=1e-4, atol=0)


def test_the_curve_holds_both_terms_of_the_loss() -> None:
    record = VAE.fit(cohort(200, 1), cohort(50, 2), options()).record
    assert {"reconstruction", "kl", "validation_reconstruction", "validation_kl"} <= record["curve"][0].keys()
    assert record["curve"][-1]["step"] == 150
    assert record["stopped"] is None


def test_the_papers_form_needs_no_axes_and_no_noise() -> None:
    paper = options(space="genes", scaling="max_abs", noise="none", batch_norm=True, beta=0.01)
    model = VAE.fit(cohort(300, 1), cohort(60, 2), paper)
    drawn = model.sample(labels(500, "kidney", "m"), seed=0)
    assert drawn.shape == (500, GENES)
    assert float(model.network.noise.max()) == 0.0
