"""Losses of single profiles, which a white-box attack reads: the same noise for all, and what they give away."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.generators.diffusion.model import LOSS_TIMES, DenoisingGenerator, Diffusion, FlowMatching
from transcriptome_diffusion.metrics.membership import loss_attack
from transcriptome_diffusion.metrics.profile_set import ProfileSet

GENES = 30
TISSUES = np.array(["liver", "lung"])


def draw(n: int, seed: int) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    labels = TISSUES[np.arange(n) % 2]
    values = 8 + 2 * (labels == "lung")[:, None] + rng.normal(size=(n, GENES))
    obs = pd.DataFrame({"tissue": labels, "donor": [f"d{seed}-{i}" for i in range(n)]})
    obs.index = pd.Index(obs["donor"].to_numpy())
    return make_profiles(values, obs, pd.DataFrame(index=[f"g{i}" for i in range(GENES)]), "log2(FPKM + 1)")


def fitted(family: type[DenoisingGenerator], train: ad.AnnData, steps: int, prediction: str) -> DenoisingGenerator:
    settings: dict[str, Any] = {
        "prediction": prediction,
        "network": {"width": 128, "depth": 2, "embedding_dim": 32, "dropout": 0.0},
        "training": {
            "max_steps": steps,
            "validate_every": steps,
            "batch_size": 64,
            "learning_rate": 3e-3,
            "weight_decay": 0,
            "precision": "float32",
            "keep": "last",
        },
    }
    return family.fit(train, draw(20, 1), family.options.model_validate(settings))


def attacked(
    model: DenoisingGenerator, train: ad.AnnData, others: ad.AnnData, **how: Any
) -> tuple[float, float, float]:
    records = [
        ProfileSet(part, part.obs["tissue"].to_numpy(), part.obs["donor"].to_numpy()) for part in (train, others)
    ]
    table, _ = loss_attack(lambda profiles: model.per_profile_loss(profiles, 0, **how), *records, LOSS_TIMES, 0)
    return tuple(table.set_index("metric").loc["loss_attack_auc", ["value", "low", "high"]])


FAMILIES = [(Diffusion, "eps"), (FlowMatching, "velocity")]


@pytest.fixture(scope="module")
def few() -> ad.AnnData:
    return draw(24, 0)


@pytest.fixture(scope="module", params=FAMILIES, ids=["diffusion", "flow_matching"])
def overfitted(request: pytest.FixtureRequest, few: ad.AnnData) -> DenoisingGenerator:
    return fitted(request.param[0], few, 300, request.param[1])


def test_a_network_that_saw_few_profiles_too_often_gives_them_away(
    overfitted: DenoisingGenerator, few: ad.AnnData
) -> None:
    ours, theirs = (overfitted.per_profile_loss(part, 0) for part in (few, draw(60, 2)))
    assert ours.mean() < 0.8 * theirs.mean()
    value, low, _ = attacked(overfitted, few, draw(60, 2))
    assert value > 0.9
    assert low > 0.8


@pytest.mark.parametrize(("family", "prediction"), [*FAMILIES, (Diffusion, "residual"), (FlowMatching, "residual")])
def test_an_untrained_network_gives_nobody_away(family: type[DenoisingGenerator], prediction: str) -> None:
    train = draw(300, 3)  # many more than genes: the Gaussian of ``residual`` fits other donors as well
    model = fitted(family, train, 1, prediction)
    torch.nn.init.zeros_(model.denoiser.network.out.weight)
    torch.nn.init.zeros_(model.denoiser.network.out.bias)
    value, low, high = attacked(model, train, draw(150, 4))
    assert low <= 0.5 <= high
    assert value == pytest.approx(0.5, abs=0.07)
    # less what a network that says zero has, nothing is left
    assert not model.per_profile_loss(train, 0, relative=True).any()


def test_losses_repeat_themselves_and_do_not_hang_on_other_profiles_or_batches(
    overfitted: DenoisingGenerator, few: ad.AnnData
) -> None:
    before = torch.get_rng_state()
    found = overfitted.per_profile_loss(few, 5)
    assert found.shape == (24, len(LOSS_TIMES))
    assert np.array_equal(found, overfitted.per_profile_loss(few, 5))
    np.testing.assert_allclose(overfitted.per_profile_loss(few[7:9], 5), found[7:9], rtol=1e-4)
    np.testing.assert_allclose(overfitted.per_profile_loss(few, 5, batch_size=5), found, rtol=1e-4)
    assert not np.allclose(overfitted.per_profile_loss(few, 6), found, rtol=0.01)
    assert torch.equal(torch.get_rng_state(), before)


def test_equal_profiles_meet_equal_noise(overfitted: DenoisingGenerator, few: ad.AnnData) -> None:
    twice = few[[0, 2]].copy()  # of one tissue
    twice.X[1] = twice.X[0]
    found = overfitted.per_profile_loss(twice, 0)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def test_the_mean_over_profiles_is_the_training_loss(overfitted: DenoisingGenerator, few: ad.AnnData) -> None:
    found = overfitted.per_profile_loss(few, 3, times=(0.25,), noises=1).mean()
    denoiser = overfitted.denoiser.eval()
    codes = torch.from_numpy(overfitted.conditions.to_codes(few.obs))
    noise = torch.randn((1, GENES), generator=torch.Generator().manual_seed(3)).expand(24, GENES)
    time = 0.25 if isinstance(overfitted, FlowMatching) else 250
    with torch.no_grad():
        u = denoiser.to_coordinates(torch.from_numpy(few.X), codes)
        expected = denoiser.loss(u, codes, denoiser.path.at(torch.tensor([time]).expand(24)), noise)
    assert found == pytest.approx(float(expected), rel=1e-4)


def test_more_noises_are_averaged(overfitted: DenoisingGenerator, few: ad.AnnData) -> None:
    def deviation(noises: int) -> float:
        means = [overfitted.per_profile_loss(few, s, times=(0.5,), noises=noises).mean() for s in range(12)]
        return float(np.std(means))

    assert deviation(16) < 0.6 * deviation(1)


@pytest.mark.parametrize("times", [(), (0.0, 0.5), (0.5, 1.1)])
def test_times_off_the_way_are_refused(
    overfitted: DenoisingGenerator, few: ad.AnnData, times: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        overfitted.per_profile_loss(few, 0, times=times)


def test_other_genes_are_refused(overfitted: DenoisingGenerator, few: ad.AnnData) -> None:
    with pytest.raises(ValueError, match="genes"):
        overfitted.per_profile_loss(few[:, ::-1], 0)
