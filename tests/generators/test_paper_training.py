"""The paper's presets are trained and sampled as its authors did it; what our generators add is off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from kedro.config import OmegaConfigLoader
from sklearn.preprocessing import MaxAbsScaler, StandardScaler
from test_contract import cohort, labels

from transcriptome_diffusion.generators.base import Generator, join
from transcriptome_diffusion.generators.diffusion.model import Diffusion
from transcriptome_diffusion.generators.diffusion.schedules import sampling_times
from transcriptome_diffusion.generators.options import DiffusionOptions, SamplerOptions
from transcriptome_diffusion.generators.registry import load_generator, trained_models
from transcriptome_diffusion.settings import CONFIG_LOADER_ARGS

NAMES = ("denoiser", "vae", "wgan_gp")


@pytest.fixture(scope="module")
def presets(project: Path) -> dict[str, Any]:
    """The blocks of the presets at a 64th of their size, trained for an epoch or two."""
    settings: dict[str, Any] = {**CONFIG_LOADER_ARGS, "runtime_params": {"preset": "tcga_paper", "preset_scale": 512}}
    return OmegaConfigLoader(str(project / "conf"), env="base", **settings)["parameters"]


@pytest.fixture(scope="module")
def profiles() -> tuple[ad.AnnData, ad.AnnData]:
    return cohort(200, 1), cohort(60, 2)


def options(presets: dict[str, Any], name: str, **changes: Any) -> Any:
    block = presets[name]
    training = {**block["training"], "batch_size": 64, "validate_every": 4, "max_epochs": 2}
    return trained_models()[name].options.model_validate({**block, "training": training, **changes})


def fit(presets: dict[str, Any], name: str, profiles: tuple[ad.AnnData, ad.AnnData], **changes: Any) -> Generator:
    return trained_models()[name].load_class().fit(*profiles, options(presets, name, **changes))


def scaler_of(model: Any) -> Any:
    return model.denoiser.scaler if isinstance(model, Diffusion) else model.network.coordinates.scaler


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_trains_on_all_profiles_in_every_epoch_and_keeps_its_last_weights(
    name: str, presets: dict[str, Any], profiles: tuple[ad.AnnData, ad.AnnData], tmp_path: Path
) -> None:
    model = fit(presets, name, profiles)
    assert model.record["steps"] == 2 * 5  # 260 profiles make four batches of 64 and one of 4
    assert model.record["stopped"] is None
    model.save(tmp_path / name)
    drawn = model.sample(labels(20), seed=3)
    assert np.isfinite(drawn.X).all()
    np.testing.assert_array_equal(load_generator(tmp_path / name).sample(labels(20), seed=3).X, drawn.X)


@pytest.mark.parametrize("name", NAMES)
def test_values_are_scaled_as_linear_ones_of_training_and_validation_profiles(
    name: str, presets: dict[str, Any], profiles: tuple[ad.AnnData, ad.AnnData]
) -> None:
    scaler = scaler_of(fit(presets, name, profiles))
    both = np.concatenate([part.X for part in profiles])
    expected = (MaxAbsScaler() if name == "denoiser" else StandardScaler()).fit_transform(np.exp2(both) - 1)
    np.testing.assert_allclose(scaler(torch.from_numpy(both)), expected, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_negative_linear_values_stay_unless_the_lower_bound_is_that_of_the_data(
    name: str, presets: dict[str, Any], profiles: tuple[ad.AnnData, ad.AnnData]
) -> None:
    drawn = {
        bound: fit(presets, name, profiles, lower_bound=bound).sample(labels(300), seed=0).X
        for bound in ("none", "data")
    }
    assert drawn["none"].min() < 0
    assert drawn["data"].min() >= 0
    # an untrained denoiser without a bound differs in nothing else
    np.testing.assert_allclose(np.maximum(drawn["none"], 0), drawn["data"], atol=1e-5)


def test_estimates_are_not_clipped_unless_asked(
    presets: dict[str, Any], profiles: tuple[ad.AnnData, ad.AnnData]
) -> None:
    """A denoiser that was hardly trained: its 50 steps of DDIM amplify its errors."""
    sampler = SamplerOptions.model_validate({**presets["ddim"], "steps": 5})
    free, clipped = (
        fit(presets, "denoiser", profiles, clip=clip).sample(labels(200), seed=0, sampler=sampler).X
        for clip in (False, True)
    )
    highest = max(part.X.max() for part in profiles)
    assert free.max() > highest + 1
    assert clipped.max() < highest + 1


def test_the_steps_of_the_sampler_are_those_of_the_authors(presets: dict[str, Any]) -> None:
    """Their times count from 0: 50 steps start at 980, 100 at 990, 1000 at 999, and end at -1, which is no noise."""
    path = Diffusion.noise_path(DiffusionOptions.model_validate(presets["denoiser"]))
    for steps, first in ((50, 980), (100, 990), (1000, 999)):
        for name in ("ddpm", "ddim"):
            spacing = SamplerOptions.model_validate(presets[name]).spacing
            times = [time - 1 for time in sampling_times(path.alpha_bar, steps, spacing)]
            assert times == [*range(first, -1, -1000 // steps), -1]


def test_the_noise_levels_are_those_of_the_authors(presets: dict[str, Any]) -> None:
    path = Diffusion.noise_path(DiffusionOptions.model_validate(presets["denoiser"]))
    found = [float(path.alpha_bar[1 + index]) for index in (0, 499, 980, 990, 999)]
    assert found == pytest.approx([0.9999, 0.33319, 1.0697e-3, 8.785e-4, 7.334e-4], rel=1e-3)


def test_the_loss_of_the_denoiser_is_the_sum_over_genes(
    presets: dict[str, Any], profiles: tuple[ad.AnnData, ad.AnnData]
) -> None:
    model: Any = fit(presets, "denoiser", profiles)
    u, codes = torch.randn(20, len(model.genes)), torch.zeros(20, 1, dtype=torch.int64)
    level, noise = model.denoiser.path.at(torch.arange(1, 21) * 50), torch.randn(20, len(model.genes))
    output = model.denoiser.network(level.signal * u + level.noise * noise, level.time, codes)
    expected = (output - noise).square().sum(1)
    torch.testing.assert_close(model.denoiser.losses(u, codes, level, noise), expected, rtol=1e-3, atol=1e-3)


def test_training_and_validation_profiles_are_joined_in_order() -> None:
    train, validation = cohort(7, 1), cohort(5, 2)
    both = join(train, validation)
    np.testing.assert_array_equal(both.X, np.concatenate([train.X, validation.X]))
    pd.testing.assert_series_equal(both.obs["tissue"].iloc[7:], validation.obs["tissue"], check_names=False)
    assert both.uns["unit"] == train.uns["unit"]
    with pytest.raises(ValueError, match="genes"):
        join(train, validation[:, ::-1])


@pytest.mark.parametrize(
    ("name", "parameters"), [("denoiser", 63_437_742), ("vae", 45_820_674), ("wgan_gp", 21_939_139)]
)
def test_the_memory_that_the_whole_network_takes_is_told_before_it_is_built(
    name: str, parameters: int, project: Path
) -> None:
    settings: dict[str, Any] = {**CONFIG_LOADER_ARGS, "runtime_params": {"preset": "tcga_paper"}}
    block = OmegaConfigLoader(str(project / "conf"), env="base", **settings)["parameters"][name]
    spec = trained_models()[name]
    needed = spec.load_class().memory_to_fit(0, 0, 978, spec.options.model_validate(block))
    assert needed == pytest.approx(24 * parameters, rel=0.03)  # of 2 classes in place of 24
