"""The Wasserstein GAN: its penalty, its validation score, its critic's bound, and what it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_contract import cohort, labels
from torch import nn

from transcriptome_diffusion import training
from transcriptome_diffusion.generators.latent import Coordinates
from transcriptome_diffusion.generators.options import WGANGPOptions
from transcriptome_diffusion.generators.wgan_gp import WGANGP, AdversarialObjective, GeneratorNetwork


def options(**settings: Any) -> WGANGPOptions:
    small = {
        "conditions": ["tissue", "sex"],
        "hidden": [32],
        "latent_dim": 8,
        "embedding_dim": 4,
        "critic": {"hidden": [32], "steps": 5, "learning_rate": 2e-3, "gradient_penalty": 10.0},
        "training": {
            "max_steps": 100,
            "validate_every": 20,
            "batch_size": 64,
            "learning_rate": 1e-3,
            "optimizer": "adam",
            "betas": [0, 0.9],
            "weight_decay": 0,
            "precision": "float32",
        },
    }
    return WGANGPOptions.model_validate({"marginal_map": False, **small, **settings})


def objective(**settings: Any) -> AdversarialObjective:
    torch.manual_seed(0)
    chosen = options(space="genes", **settings)
    return AdversarialObjective(GeneratorNetwork(Coordinates(6, None), [2], chosen), [2], chosen)


class Linear(nn.Module):
    """A critic with a known gradient, blind to labels."""

    def __init__(self, gradient: list[float]) -> None:
        super().__init__()
        self.gradient = nn.Parameter(torch.tensor(gradient)[:, None])

    def forward(self, u: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        return u @ self.gradient


def test_the_penalty_of_a_linear_critic_is_that_of_its_gradient() -> None:
    model = objective()
    model.critic = Linear([3.0, 0, 4.0, 0, 0, 0])  # type: ignore[assignment]
    batch = torch.randn(40, 6), torch.zeros(40, 1, dtype=torch.int64)
    found = model.critic_loss(batch, torch.Generator().manual_seed(0))
    assert found["gradient_penalty"].item() == pytest.approx((5 - 1) ** 2, rel=1e-5)
    assert found["loss"].item() == pytest.approx(10 * 16 - found["wasserstein"].item(), rel=1e-5)


def test_a_critic_of_gradient_one_never_exceeds_the_distance() -> None:
    model = objective()
    model.critic = Linear([0.6, 0, 0.8, 0, 0, 0])  # type: ignore[assignment]
    shifted = torch.randn(40, 6) + 50 * torch.tensor([0.6, 0, 0.8, 0, 0, 0])
    found = model.critic_loss((shifted, torch.zeros(40, 1, dtype=torch.int64)), torch.Generator())
    assert 45 < found["wasserstein"].item() <= found["distance"].item()
    assert model.trouble({name: float(value.detach()) for name, value in found.items()}) is None


@pytest.mark.parametrize("sign", [1, -1])
def test_an_estimate_far_above_the_distance_is_an_explosion(sign: int) -> None:
    found = objective().trouble({"wasserstein": sign * 31.0, "distance": 10.0})
    assert found is not None
    assert "critic.learning_rate" in found
    assert objective().trouble({"wasserstein": sign * 29.0, "distance": 10.0}) is None


def test_a_diverged_critic_is_always_reported() -> None:
    """Whether it leaves nothing to keep or healthy weights from before is chance."""
    wild = options(critic={"hidden": [32], "learning_rate": 0.9, "gradient_penalty": 1e-6})
    try:
        record = WGANGP.fit(cohort(300, 1), cohort(60, 2), wild).record
    except training.TrainingDivergedError as error:
        assert "critic exploded" in str(error)  # noqa: PT017
    else:
        assert "critic exploded" in str(record["stopped"])


def test_the_validation_score_is_lowest_for_the_true_distribution() -> None:
    """Energy score of normal draws with a wrong mean, too small and too large a deviation."""

    class Normal(nn.Module):
        coordinates = Coordinates(6, None)

        def __init__(self, mean: float, deviation: float) -> None:
            super().__init__()
            self.mean, self.deviation = mean, deviation

        def draw(self, codes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            return self.mean + self.deviation * torch.randn((len(codes), 6), generator=generator)

    torch.manual_seed(0)
    batch = torch.randn(2000, 6), torch.zeros(2000, 1, dtype=torch.int64)
    model, score = objective(), {}
    for case in [(0.0, 1.0), (0.3, 1.0), (0.0, 0.7), (0.0, 1.4)]:
        model.network = Normal(*case)  # type: ignore[assignment]
        score[case] = float(model.validation_loss(batch))
    assert min(score, key=lambda case: score[case]) == (0.0, 1.0)
    # E|x - g| / 2 for two draws of one normal distribution in 6 dimensions: Gamma(3.5) / Gamma(3)
    assert score[0.0, 1.0] == pytest.approx(3.3234 / 2, rel=0.02)


def test_on_axes_an_untrained_network_draws_the_gaussian_and_on_genes_it_learns_the_means() -> None:
    train, validation = cohort(600, 1), cohort(150, 2)
    mine = train.X[(train.obs["tissue"] == "liver") & (train.obs["sex"] == "f")]
    short = options().training.model_copy(update={"max_steps": 1})
    drawn = WGANGP.fit(train, validation, options(training=short)).sample(labels(4000), seed=0).X
    assert np.abs(drawn.mean(0) - mine.mean(0)).max() < 0.3
    assert drawn.std(0) == pytest.approx(mine.std(0), rel=0.2)
    longer = options().training.model_copy(update={"max_steps": 300})
    critic = options().critic.model_copy(update={"steps": 2, "learning_rate": 5e-3})
    learnt = WGANGP.fit(train, validation, options(space="genes", training=longer, critic=critic))
    apart = np.abs(learnt.sample(labels(2000), seed=0).X.mean(0) - mine.mean(0))
    assert (apart / mine.std(0)).mean() < 0.5


def test_only_the_generator_is_saved_and_the_curve_tells_of_the_critic() -> None:
    model = WGANGP.fit(cohort(200, 1), cohort(50, 2), options())
    assert not [name for name in model.state() if "critic" in name]
    assert {"wasserstein", "gradient_penalty", "critic_loss", "distance"} <= model.record["curve"][0].keys()
    assert model.record["steps"] == 100
