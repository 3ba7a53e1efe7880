"""Schedules against their published formulae, and the times samplers and training visit."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from transcriptome_diffusion.generators.diffusion import schedules
from transcriptome_diffusion.generators.options import LineTimesOptions, ScheduleOptions, TimesOptions


@pytest.mark.parametrize("kind", ["cosine", "linear", "quadratic"])
def test_the_signal_falls_from_all_to_almost_nothing(kind: str) -> None:
    alpha_bar = schedules.alpha_bar(ScheduleOptions(kind=kind))
    assert alpha_bar.shape == (1001,)
    assert alpha_bar.dtype == torch.float64
    assert alpha_bar[0] == 1
    assert (alpha_bar.diff() < 0).all()
    assert 0 < alpha_bar[-1] < 2e-3


@pytest.mark.parametrize(
    ("kind", "theirs"),
    [("cosine", "squaredcos_cap_v2"), ("linear", "linear"), ("quadratic", "scaled_linear")],
)
def test_schedules_are_those_of_diffusers(kind: str, theirs: str) -> None:
    expected = DDPMScheduler(num_train_timesteps=1000, beta_schedule=theirs).alphas_cumprod.double()
    # diffusers multiplies in float32 up
    torch.testing.assert_close(schedules.alpha_bar(ScheduleOptions(kind=kind))[1:], expected, rtol=2e-4, atol=1e-7)


def test_the_cosine_schedule_follows_its_formula_away_from_the_cap() -> None:
    alpha_bar = schedules.alpha_bar(ScheduleOptions(kind="cosine", timesteps=100))
    for t in (1, 30, 77):
        expected = math.cos((t / 100 + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
        assert float(alpha_bar[t]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("spacing", ["trailing", "linspace", "leading"])
@pytest.mark.parametrize("steps", [1, 7, 50, 1000])
def test_sampling_times_are_those_of_diffusers(spacing: str, steps: int) -> None:
    theirs = DDIMScheduler(num_train_timesteps=1000, timestep_spacing=spacing, steps_offset=0)
    theirs.set_timesteps(steps)
    times = schedules.sampling_times(schedules.alpha_bar(ScheduleOptions()), steps, spacing)
    # theirs count from 0 for the first noisy time, ours from 1, and ours end at time 0
    ours = [t - 1 for t in times[:-1]]
    if (spacing, steps) == ("linspace", 1):
        assert ours == [999]  # theirs starts a single step at time 0, where there is no noise to remove
    else:
        assert ours == theirs.timesteps.tolist()
    assert times[-1] == 0


def test_log_snr_times_are_even_in_the_log_of_signal_to_noise() -> None:
    alpha_bar = schedules.alpha_bar(ScheduleOptions(kind="cosine", timesteps=100_000))
    times = schedules.sampling_times(alpha_bar, 20, "log_snr")
    assert times[0] == 100_000
    assert times[-2:] == [1, 0]
    log_snr = torch.log(alpha_bar / (1 - alpha_bar))[times[3:-3]]
    torch.testing.assert_close(log_snr.diff(), log_snr.diff().mean().expand(len(log_snr) - 1), rtol=2e-2, atol=0)


def test_times_fall_strictly_even_where_rounding_merges_them() -> None:
    alpha_bar = schedules.alpha_bar(ScheduleOptions(timesteps=20))
    for spacing in ("trailing", "linspace", "leading", "log_snr"):
        times = torch.tensor(schedules.sampling_times(alpha_bar, 20, spacing))
        assert (times.diff() < 0).all()


@pytest.mark.parametrize("steps", [0, 11])
def test_more_steps_than_the_schedule_has_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"{steps} sampling steps"):
        schedules.sampling_times(schedules.alpha_bar(ScheduleOptions(timesteps=10)), steps, "trailing")


def test_an_unknown_spacing_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown spacing 'even'"):
        schedules.sampling_times(schedules.alpha_bar(ScheduleOptions()), 5, "even")


@pytest.mark.parametrize("count", [8, 9])
def test_antithetic_times_come_in_pairs(count: int) -> None:
    alpha_bar = schedules.alpha_bar(ScheduleOptions(timesteps=10))
    generator = torch.Generator().manual_seed(0)
    t = schedules.training_times(count, schedules.log_snr(alpha_bar), TimesOptions(kind="antithetic"), generator)
    half = (count + 1) // 2
    assert len(t) == count
    assert (t[:half][: count - half] + t[half:] == 11).all()


@pytest.mark.parametrize("kind", ["antithetic", "uniform"])
def test_training_times_cover_every_time_equally(kind: str) -> None:
    alpha_bar = schedules.alpha_bar(ScheduleOptions(timesteps=10))
    generator = torch.Generator().manual_seed(1)
    t = schedules.training_times(40_000, schedules.log_snr(alpha_bar), TimesOptions(kind=kind), generator)
    shares = torch.bincount(t, minlength=11)[1:] / len(t)
    assert t.min() == 1
    assert t.max() == 10
    # 4.5 binomial standard deviations of a share of a tenth (twice the variance for pairs)
    assert (shares - 0.1).abs().max() < 4.5 * math.sqrt(2 * 0.1 * 0.9 / len(t))


def test_training_times_follow_the_normal_in_log_snr() -> None:
    alpha_bar = schedules.alpha_bar(ScheduleOptions())
    options = TimesOptions(kind="log_snr", mean=-1.0, deviation=1.5)
    t = schedules.training_times(20_000, schedules.log_snr(alpha_bar), options, torch.Generator().manual_seed(2))
    assert t.min() >= 1
    assert t.max() <= 1000
    log_snr = torch.log(alpha_bar / (1 - alpha_bar))[t]
    # strata leave no sampling error to speak of; what is left is the width of a timestep
    assert float(log_snr.mean()) == pytest.approx(-1.0, abs=0.02)
    assert float(log_snr.std()) == pytest.approx(1.5, rel=0.02)


def test_even_a_small_batch_has_one_time_in_each_stratum() -> None:
    alpha_bar = schedules.alpha_bar(ScheduleOptions())
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        t = schedules.training_times(4, schedules.log_snr(alpha_bar), TimesOptions(), generator)
        log_snr = torch.log(alpha_bar / (1 - alpha_bar))[t]
        place = torch.special.ndtr((log_snr + 1.5) / 2.0)
        assert (place * 4).long().tolist() == [0, 1, 2, 3]


def test_times_on_the_line_have_the_quantiles_of_their_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    uniform = schedules.line_times(1000, LineTimesOptions(kind="uniform"), generator)
    torch.testing.assert_close(uniform, torch.linspace(0.0005, 0.9995, 1000), atol=1e-3, rtol=0)
    normal = schedules.line_times(1000, LineTimesOptions(mean=0.5, deviation=2.0), generator)
    assert float(torch.logit(normal).mean()) == pytest.approx(0.5, abs=0.01)
    assert float(torch.logit(normal).std()) == pytest.approx(2.0, rel=0.02)
    assert float(normal.min()) > 0
    assert float(normal.max()) < 1
