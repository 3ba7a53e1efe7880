"""Samplers against an oracle (Gaussian data, whose exact denoiser is known) and against diffusers."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from transcriptome_diffusion.generators.diffusion import samplers, schedules
from transcriptome_diffusion.generators.options import SamplerOptions, ScheduleOptions

MEAN = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64)
SPREAD = torch.tensor([0.2, 1.0, 1.5], dtype=torch.float64)


def oracle(alpha_bar: Tensor, mean: Tensor = MEAN) -> samplers.Denoise:
    """E[x_0 | x_t] for independent normal data with ``mean`` and SPREAD."""

    def denoise(x: Tensor, t: int) -> Tensor:
        a2 = float(alpha_bar[t])
        gain = math.sqrt(a2) * SPREAD**2 / (a2 * SPREAD**2 + 1 - a2)
        return mean + gain * (x - math.sqrt(a2) * mean)

    return denoise


def exact_flow(x: Tensor, alpha_bar: Tensor, t: int, earlier: int) -> Tensor:
    """Where the probability-flow ODE carries ``x`` for normal data: quantiles keep their place."""
    now, then = float(alpha_bar[t]), float(alpha_bar[earlier])
    z = (x - math.sqrt(now) * MEAN) / (now * SPREAD**2 + 1 - now).sqrt()
    return math.sqrt(then) * MEAN + z * (then * SPREAD**2 + 1 - then).sqrt()


def shared_schedule(theirs: Any) -> Tensor:
    """Their schedule in our convention, in float64 on both sides: 1 - alpha_bar loses digits in float32."""
    theirs.alphas_cumprod = theirs.alphas_cumprod.double()
    return torch.cat([torch.ones(1, dtype=torch.float64), theirs.alphas_cumprod])


def noise(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpm_solver"])
def test_every_sampler_gives_a_known_normal_back(name: str) -> None:
    alpha_bar = schedules.alpha_bar(ScheduleOptions())
    times = schedules.sampling_times(alpha_bar, 500, "trailing")
    generator = torch.Generator().manual_seed(1)
    x = samplers.draw(oracle(alpha_bar), noise(20_000), alpha_bar, times, SamplerOptions(name=name), generator)
    # five standard errors, and one per cent for the step's width
    assert ((x.mean(0) - MEAN).abs() < 5 * SPREAD / math.sqrt(len(x))).all()
    torch.testing.assert_close(x.std(0), SPREAD, rtol=0.01 + 5 / math.sqrt(2 * len(x)), atol=0)
    assert torch.corrcoef(x.T).fill_diagonal_(0).abs().max() < 5 / math.sqrt(len(x))


def test_ddpm_in_few_steps_has_the_closed_form_spread() -> None:
    """For normal data each update is affine, so the variance after all of them is a recursion of numbers."""
    alpha_bar = schedules.alpha_bar(ScheduleOptions())
    times = schedules.sampling_times(alpha_bar, 10, "trailing")
    variance = torch.ones(3, dtype=torch.float64)
    for t, earlier in pairwise(times):
        a2, b2 = float(alpha_bar[t]), float(alpha_bar[earlier])
        sigma2 = (1 - b2) / (1 - a2) * (1 - a2 / b2)
        gain = math.sqrt(a2) * SPREAD**2 / (a2 * SPREAD**2 + 1 - a2)
        eps = math.sqrt(1 - b2 - sigma2) / math.sqrt(1 - a2)
        slope = math.sqrt(b2) * gain + eps * (1 - math.sqrt(a2) * gain)
        variance = slope**2 * variance + sigma2
    x = samplers.ancestral(oracle(alpha_bar), noise(50_000), alpha_bar, times, 1.0, torch.Generator().manual_seed(2))
    torch.testing.assert_close(x.var(0), variance, rtol=5 * math.sqrt(2 / len(x)), atol=0)


@pytest.mark.parametrize("name", ["ddpm", "ddim"])
@pytest.mark.parametrize("steps", [1, 3, 50])
def test_with_the_variance_known_any_number_of_steps_is_exact(name: str, steps: int) -> None:
    alpha_bar = schedules.alpha_bar(ScheduleOptions())
    times = schedules.sampling_times(alpha_bar, steps, "trailing")
    centred = oracle(alpha_bar, mean=0 * MEAN)
    x = noise(40_000)
    drawn = samplers.draw(
        centred,
        x,
        alpha_bar,
        times,
        SamplerOptions(name=name),
        torch.Generator().manual_seed(4),
        None,
        SPREAD**2,
    )
    if name == "ddim":  # deterministic: the flow itself, profile by profile
        start = (float(alpha_bar[-1]) * SPREAD**2 + 1 - float(alpha_bar[-1])).sqrt()
        torch.testing.assert_close(drawn, x / start * SPREAD, rtol=1e-6, atol=1e-9)
    else:
        assert (drawn.mean(0).abs() < 5 * SPREAD / math.sqrt(len(x))).all()
        torch.testing.assert_close(drawn.std(0), SPREAD, rtol=5 / math.sqrt(2 * len(x)), atol=0)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_in_small_steps_the_exact_update_is_the_ordinary_one(eta: float) -> None:
    alpha_bar = schedules.alpha_bar(ScheduleOptions(timesteps=1_000_000))
    wrong = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)  # the variance need not be the data's
    x = noise(6)
    for t in (900_000, 500_000, 200_000):
        ordinary, exact = (
            sample(torch.Generator().manual_seed(t))
            for sample in (
                lambda g, t=t: samplers.ancestral(oracle(alpha_bar), x, alpha_bar, [t, t - 10], eta, g),
                lambda g, t=t: samplers.gaussian_exact(oracle(alpha_bar), x, alpha_bar, [t, t - 10], eta, wrong, g),
            )
        )
        moved = (ordinary - x).abs().max()
        assert (exact - ordinary).abs().max() < 1e-3 * moved


@pytest.mark.parametrize("steps", [10, 50])
def test_ddim_with_one_dominant_gaussian_keeps_the_mean_exactly(steps: int) -> None:
    alpha_bar = schedules.alpha_bar(ScheduleOptions())
    times = schedules.sampling_times(alpha_bar, steps, "trailing")
    start = math.sqrt(float(alpha_bar[-1])) * MEAN[None]
    x = samplers.ancestral(oracle(alpha_bar), start, alpha_bar, times, 0.0, torch.Generator())
    torch.testing.assert_close(x[0], MEAN, rtol=1e-9, atol=1e-9)


def test_dpm_solver_converges_at_second_order_and_ddim_at_first() -> None:
    alpha_bar = schedules.alpha_bar(ScheduleOptions(timesteps=200_000))
    x, generator = noise(50), torch.Generator()
    errors: dict[str, list[float]] = {"ddim": [], "dpm_solver": []}
    for steps in (20, 40, 80):
        times = schedules.sampling_times(alpha_bar, steps, "log_snr")[:-4]  # the last step is of first order
        exact = exact_flow(x, alpha_bar, times[0], times[-1])
        for name, found in errors.items():
            options = SamplerOptions(name=name)
            y = samplers.draw(oracle(alpha_bar), x, alpha_bar, times, options, generator)
            found.append(float((y - exact).abs().max()))
    order = {name: math.log2(found[1] / found[2]) for name, found in errors.items()}
    assert order["ddim"] == pytest.approx(1.0, abs=0.25)
    assert order["dpm_solver"] == pytest.approx(2.0, abs=0.4)
    assert errors["dpm_solver"][0] < errors["ddim"][0] / 3


def test_without_eta_the_generator_is_not_touched_and_with_it_seeds_decide() -> None:
    alpha_bar = schedules.alpha_bar(ScheduleOptions(timesteps=50))
    times = schedules.sampling_times(alpha_bar, 10, "trailing")

    def run(eta: float, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return samplers.ancestral(oracle(alpha_bar), noise(5), alpha_bar, times, eta, generator)

    assert torch.equal(run(0.0, 1), run(0.0, 2))
    assert torch.equal(run(1.0, 1), run(1.0, 1))
    assert not torch.equal(run(1.0, 1), run(1.0, 2))


@pytest.mark.parametrize("beta_schedule", ["linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("steps", [20, 100])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_each_implicit_step_is_that_of_diffusers(beta_schedule: str, steps: int, eta: float) -> None:
    theirs = DDIMScheduler(
        num_train_timesteps=100,
        beta_schedule=beta_schedule,
        clip_sample=False,
        timestep_spacing="trailing",
        prediction_type="sample",
    )
    theirs.set_timesteps(steps)
    alpha_bar = shared_schedule(theirs)
    denoise, x = oracle(alpha_bar), noise(7)
    ours, same_noise = x, torch.Generator().manual_seed(3)
    for t, earlier in pairwise(schedules.sampling_times(alpha_bar, steps, "trailing")):
        step_noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(t), dtype=x.dtype)
        expected = theirs.step(
            denoise(ours, t), t - 1, ours, eta=eta, variance_noise=step_noise if eta else None
        ).prev_sample
        same_noise.manual_seed(t)
        ours = samplers.ancestral(denoise, ours, alpha_bar, [t, earlier], eta, same_noise)
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_each_ddpm_step_is_that_of_diffusers() -> None:
    theirs = DDPMScheduler(num_train_timesteps=100, clip_sample=False, prediction_type="sample")
    theirs.set_timesteps(100)
    alpha_bar = shared_schedule(theirs)
    denoise, x = oracle(alpha_bar), noise(7)
    for t in range(100, 0, -1):
        expected = theirs.step(denoise(x, t), t - 1, x, generator=torch.Generator().manual_seed(t)).prev_sample
        generator = torch.Generator().manual_seed(t)
        x = samplers.ancestral(denoise, x, alpha_bar, [t, t - 1], 1.0, generator)
        torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-5)


def test_dpm_solver_is_that_of_diffusers() -> None:
    theirs = DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        timestep_spacing="trailing",
        final_sigmas_type="zero",
        euler_at_final=True,
    )
    theirs.set_timesteps(15)
    alpha_bar = shared_schedule(theirs)
    denoise, x = oracle(alpha_bar), noise(7)
    expected = x
    for t in theirs.timesteps.tolist():
        expected = theirs.step(denoise(expected, t + 1), t, expected).prev_sample
    ours = samplers.dpm_solver(denoise, x, alpha_bar, [*(t + 1 for t in theirs.timesteps.tolist()), 0])
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpm_solver"])
def test_progress_is_reported_once_a_step(name: str) -> None:
    alpha_bar = schedules.alpha_bar(ScheduleOptions(timesteps=50))
    times = schedules.sampling_times(alpha_bar, 5, "trailing")
    seen: list[tuple[int, int]] = []

    def progress(done: int, of: int) -> None:
        seen.append((done, of))

    samplers.draw(oracle(alpha_bar), noise(2), alpha_bar, times, SamplerOptions(name=name), torch.Generator(), progress)
    assert seen == [(i, 5) for i in range(1, 6)]


def as_eps(a: Tensor, s: Tensor, x0: Tensor, eps: Tensor) -> Tensor:
    return eps


def as_v(a: Tensor, s: Tensor, x0: Tensor, eps: Tensor) -> Tensor:
    return a * eps - s * x0


def as_x0(a: Tensor, s: Tensor, x0: Tensor, eps: Tensor) -> Tensor:
    return x0


@pytest.mark.parametrize(("prediction", "target"), [("eps", as_eps), ("v", as_v), ("x0", as_x0)])
def test_a_perfect_prediction_of_any_kind_gives_the_clean_profile(
    prediction: str, target: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
) -> None:
    x0, eps = noise(4, seed=1), noise(4, seed=2)
    a = torch.tensor([[0.01], [0.5], [0.9], [0.999]], dtype=torch.float64)
    s = (1 - a**2).sqrt()
    skip, scale = samplers.skip_and_scale(prediction, a, s)
    torch.testing.assert_close(skip * (a * x0 + s * eps) + scale * target(a, s, x0, eps), x0)


def test_an_unknown_prediction_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown prediction 'score'"):
        samplers.skip_and_scale("score", torch.ones(1), torch.ones(1))


def line_oracle(x: Tensor, time: float) -> Tensor:
    """E[x_0 | x_t] on the straight path, for normal data around 0 with SPREAD."""
    return (1 - time) * SPREAD**2 / ((1 - time) ** 2 * SPREAD**2 + time**2) * x


@pytest.mark.parametrize("method", ["euler", "midpoint"])
@pytest.mark.parametrize("intervals", [1, 4])
def test_along_the_line_with_the_variance_known_any_number_of_steps_is_exact(method: str, intervals: int) -> None:
    x = noise(10)
    drawn = samplers.along_line(line_oracle, x, intervals, method, SPREAD**2)
    torch.testing.assert_close(drawn, x * SPREAD, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2)])
@pytest.mark.parametrize("variance", [None, torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)])
def test_along_the_line_the_error_falls_with_the_methods_order(
    method: str, order: int, variance: Tensor | None
) -> None:
    """The flow of normal data scales noise by SPREAD; a wrong ``variance`` changes the steps, not the limit."""
    x = noise(6)
    errors = [
        float((samplers.along_line(line_oracle, x, n, method, variance) - x * SPREAD).abs().max()) for n in (160, 320)
    ]
    assert math.log2(errors[0] / errors[1]) > order - 0.15


@pytest.mark.parametrize(("method", "evaluations"), [("euler", 5), ("midpoint", 10)])
def test_along_the_line_progress_counts_evaluations(method: str, evaluations: int) -> None:
    seen, asked = [], []

    def denoise(x: Tensor, time: float) -> Tensor:
        asked.append(time)
        return line_oracle(x, time)

    samplers.along_line(denoise, noise(2), 5, method, None, lambda *done: seen.append(done))
    assert seen[-1] == (evaluations, evaluations)
    assert len(asked) == evaluations
    assert max(asked) == 1
    assert min(asked) > 0


@pytest.mark.parametrize("method", ["ddim", "ddpm", "euler", "midpoint"])
def test_estimates_of_the_leading_coordinates_give_what_estimates_of_all_give(method: str) -> None:
    """Where the others' are the Gaussian's; the leading ones depend on all coordinates."""
    alpha_bar = schedules.alpha_bar(ScheduleOptions())
    times = schedules.sampling_times(alpha_bar, 7, "trailing")
    discrete = method in ("ddim", "ddpm")

    def every(x: Tensor, t: float) -> Tensor:
        estimate = oracle(alpha_bar, 0 * MEAN)(x, int(t)) if discrete else line_oracle(x, t)
        estimate[:, :2] += torch.tanh(x.sum(1, keepdim=True))
        return estimate

    def drawn(denoise: Callable[[Tensor, float], Tensor]) -> Tensor:
        if not discrete:
            return samplers.along_line(denoise, noise(9), 7, method, SPREAD**2)
        eta, generator = float(method == "ddpm"), torch.Generator().manual_seed(1)
        return samplers.gaussian_exact(denoise, noise(9), alpha_bar, times, eta, SPREAD**2, generator)

    torch.testing.assert_close(drawn(lambda x, t: every(x, t)[:, :2]), drawn(every), rtol=1e-9, atol=1e-12)
