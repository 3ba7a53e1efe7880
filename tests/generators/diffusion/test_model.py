"""The denoiser's scaling and loss, what the network adds to its Gaussian, and sampling through the model."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.generators.diffusion.model import Denoiser, Diffusion, Scaler
from transcriptome_diffusion.parameters import DiffusionOptions, SamplerOptions

TINY: dict[str, Any] = {
    "network": {"width": 16, "depth": 1, "embedding_dim": 8},
    "training": {"max_steps": 20, "validate_every": 10, "batch_size": 64, "precision": "float32"},
    "sampler": {"steps": 10},
}


def profiles(values: np.ndarray, tissue: list[str] | None = None) -> ad.AnnData:
    names = [f"g{i}" for i in range(values.shape[1])]
    obs = pd.DataFrame({"tissue": tissue or ["liver"] * len(values)}, index=[f"s{i}" for i in range(len(values))])
    return make_profiles(values, obs, pd.DataFrame(index=names), "log2(FPKM + 1)")


def two_humps(n: int, seed: int) -> ad.AnnData:
    """One tissue in which all genes are 7 or 13 together, with little noise: far from a Gaussian."""
    rng = np.random.default_rng(seed)
    side = rng.choice([-3.0, 3.0], size=(n, 1))
    return profiles(10 + side + 0.3 * rng.normal(size=(n, 4)))


@pytest.mark.parametrize("kind", ["standard", "max_abs"])
def test_scaling_is_undone_exactly_and_constant_genes_stay_constant(kind: str) -> None:
    x = np.random.default_rng(0).normal(5, 2, (50, 3)).astype(np.float32)
    x[:, 1] = 7.1
    x[:, 2] = 0.0
    scaler = Scaler(3)
    scaler.fit(x, kind)
    z = scaler(torch.from_numpy(x))
    np.testing.assert_allclose(scaler.inverse(z).numpy(), x, rtol=1e-5, atol=1e-6)
    if kind == "standard":
        assert float(z[:, 0].mean()) == pytest.approx(0, abs=1e-5)
        assert float(z[:, 0].std(correction=0)) == pytest.approx(1, abs=1e-5)
        noisy = scaler.inverse(torch.randn(9, 3))
        np.testing.assert_allclose(noisy[:, 1].numpy(), 7.1, rtol=1e-6)
    else:
        assert float(z[:, 0].abs().max()) == pytest.approx(1)
        assert float(scaler.inverse(torch.randn(9, 3))[:, 2].abs().max()) == 0


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
@torch.no_grad()
def test_the_loss_of_a_network_that_says_zero_is_the_targets_second_moment(prediction: str) -> None:
    options = DiffusionOptions.model_validate({**TINY, "prediction": prediction})
    denoiser = Denoiser(options, 6, [2], None)
    generator = torch.Generator().manual_seed(0)
    u = 2 * torch.randn(50_000, 6, generator=generator)
    t = torch.full((len(u),), 400)
    loss = denoiser.loss(u, torch.zeros(len(u), 1, dtype=torch.int64), t, torch.randn(u.shape, generator=generator))
    a2 = float(denoiser.alpha_bar[400])
    expected = {"eps": 1.0, "x0": 4.0, "v": a2 * 1.0 + (1 - a2) * 4.0}[prediction]
    assert float(loss) == pytest.approx(expected, rel=0.02)


def test_the_loss_is_the_error_of_the_clean_estimate_in_units_of_scale() -> None:
    options = DiffusionOptions.model_validate({**TINY, "prediction": "eps"})
    denoiser = Denoiser(options, 6, [2], None)
    torch.nn.init.normal_(denoiser.network.out.weight)
    denoiser.eval()
    u, noise, codes = torch.randn(3, 6), torch.randn(3, 6), torch.tensor([[0], [1], [1]])
    t = torch.tensor([1, 500, 900])
    a, s = denoiser.signal[t, None], denoiser.noise[t, None]
    x_t = a * u + s * noise
    implied_noise = (x_t - a * denoiser(x_t, t, codes)) / s
    expected = (implied_noise - noise).square().mean()
    torch.testing.assert_close(denoiser.loss(u, codes, t, noise), expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_validation_loss_repeats_itself_and_draws_nothing_from_outside() -> None:
    denoiser = Denoiser(DiffusionOptions.model_validate(TINY | {"prediction": "v"}), 6, [2], None).eval()
    batch = (torch.randn(30, 6), torch.zeros(30, 1, dtype=torch.int64))
    before = torch.get_rng_state()
    assert float(denoiser.validation_loss(batch)) == float(denoiser.validation_loss(batch))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture(scope="module")
def humps() -> Diffusion:
    options = DiffusionOptions.model_validate(
        {
            **TINY,
            "network": {"width": 64, "depth": 2, "embedding_dim": 32, "dropout": 0.0},
            "training": {**TINY["training"], "max_steps": 600, "validate_every": 100, "learning_rate": 3e-3},
        }
    )
    return Diffusion.fit(two_humps(600, 0), two_humps(200, 1), options)


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpm_solver"])
def test_the_network_learns_what_no_gaussian_can_say(humps: Diffusion, name: str) -> None:
    labels = pd.DataFrame({"tissue": ["liver"] * 2000})
    drawn = humps.sample(labels, 0, sampler=SamplerOptions(name=name, steps=50)).X.mean(1) - 10
    # a Gaussian of the same variance would lay 38 % of its draws between the humps, within 1.5 of the middle
    assert np.mean(np.abs(drawn) < 1.5) < 0.08
    assert np.mean(drawn > 0) == pytest.approx(0.5, abs=0.12)
    assert np.abs(drawn).mean() == pytest.approx(3, abs=0.35)


def test_training_improves_on_the_gaussian_and_the_record_says_so(humps: Diffusion) -> None:
    record = humps.record
    assert [point["step"] for point in record["curve"]] == [100, 200, 300, 400, 500, 600]
    assert record["best_validation_loss"] == min(point["validation_loss"] for point in record["curve"])
    assert record["best_validation_loss"] < 0.9  # the Gaussian's own loss is one


def test_samples_bear_the_samplers_name_and_settings(humps: Diffusion) -> None:
    sampler = SamplerOptions(name="ddim", steps=3)
    drawn = humps.sample(pd.DataFrame({"tissue": ["liver"] * 2}), 4, sampler=sampler)
    assert drawn.uns["generator"]["name"] == "ddim"
    assert drawn.uns["generator"]["sampler"]["steps"] == 3
    assert list(drawn.obs_names) == ["ddim-0", "ddim-1"]


def test_progress_counts_every_evaluation_of_every_batch(humps: Diffusion) -> None:
    seen: list[tuple[int, int]] = []

    def progress(done: int, of: int) -> None:
        seen.append((done, of))

    labels = pd.DataFrame({"tissue": ["liver"] * 5})
    humps.sample(labels, 0, batch_size=2, sampler=SamplerOptions(steps=4), progress=progress)
    assert seen == [(i, 12) for i in range(1, 13)]


@pytest.mark.parametrize("settings", [{"network": {"kind": "paper", "width": 16}}, {"scaling": "max_abs"}])
@pytest.mark.parametrize("prediction", ["eps", "v", "x0", "residual"])
def test_every_network_scaling_and_target_trains_and_samples_finite_values(
    settings: dict[str, Any], prediction: str
) -> None:
    options = DiffusionOptions.model_validate({**TINY, **settings, "prediction": prediction})
    model = Diffusion.fit(two_humps(100, 0), two_humps(40, 1), options)
    drawn = model.sample(pd.DataFrame({"tissue": ["liver"] * 3}), 0)
    assert np.isfinite(drawn.X).all()


@pytest.mark.parametrize(
    ("block", "value"),
    [
        ({"network": {"width": 0}}, "width"),
        ({"network": {"dropout": 1.0}}, "dropout"),
        ({"schedule": {"timesteps": 0}}, "timesteps"),
        ({"training": {"learning_rate": 0}}, "learning_rate"),
        ({"training": {"max_steps": 0}}, "max_steps"),
        ({"sampler": {"steps": 0}}, "steps"),
        ({"prediction": "score"}, "prediction"),
        ({"networks": {}}, "networks"),
    ],
)
def test_impossible_options_are_refused_by_name(block: dict[str, Any], value: str) -> None:
    with pytest.raises(ValidationError, match=value):
        DiffusionOptions.model_validate(block)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="SKIPPED FOR LACK OF A GPU")
@pytest.mark.parametrize("name", ["ddpm", "ddim"])
def test_cpu_and_gpu_sample_the_same(humps: Diffusion, name: str) -> None:
    labels = pd.DataFrame({"tissue": ["liver"] * 50})
    cpu, gpu = (
        humps.sample(labels, 8, sampler=SamplerOptions(name=name, steps=20, device=device)).X
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(cpu, gpu, rtol=1e-3, atol=1e-3)
