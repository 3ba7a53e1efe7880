"""Samplers as pure functions of a denoiser: DDPM and DDIM in one update, DPM-Solver++(2M), and flow matching's.

A denoiser maps ``(x_t, t)`` to its estimate of x_0. Coefficients are float64 numbers, the state keeps its own
type, nothing is clipped, and memory does not grow with the number of steps. The state is updated in place, so that a
denoiser returns a new tensor and keeps none that it was given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from transcriptome_diffusion.generators.options import SamplerOptions

Denoise = Callable[[Tensor, int], Tensor]
Progress = Callable[[int, int], None]


def skip_and_scale(prediction: str, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """The affine map from a network's output F to x_0: ``x_0 = skip * x_t + scale * F``.

    With x_t = a x_0 + s eps, a^2 + s^2 = 1, and v = a eps - s x_0 (Salimans and Ho 2022, arXiv:2202.00512);
    for ``velocity``, a + s = 1 and F is eps - x_0.

    Raises:
        ValueError: if ``prediction`` is not one of eps, v, x0, velocity.
    """
    if prediction == "eps":
        return 1 / a, -s / a
    if prediction == "v":
        return a, -s
    if prediction == "x0":
        return torch.zeros_like(a), torch.ones_like(a)
    if prediction == "velocity":
        return torch.ones_like(a), -s
    raise ValueError(f"unknown prediction {prediction!r}; known are eps, v, x0 and velocity.")


def gaussian_like(x: Tensor, generator: torch.Generator, shape: Sequence[int] | None = None) -> Tensor:
    """Standard normal noise of the type and (unless given) shape of ``x``, on its device.

    It is drawn on the generator's device, so that every device samples the same profiles.
    """
    noise = torch.randn(shape or x.shape, generator=generator, device=generator.device, dtype=x.dtype)
    return noise.to(x.device)


def ancestral(
    denoise: Denoise,
    x: Tensor,
    schedule: Tensor,
    times: Sequence[int],
    eta: float,
    generator: torch.Generator,
    progress: Progress | None = None,
) -> Tensor:
    """Denoise ``x`` (n, n_genes) along ``times``: Song et al. (2021), arXiv:2010.02502, eq. 12 and 16.

    Args:
        denoise: (x_t, t) to x_0.
        x: the state at ``times[0]``, usually standard normal noise.
        schedule: alpha_bar, (T + 1,) float64.
        times: strictly falling, the last one is where the result stands (0 for profiles without noise).
        eta: 0 is DDIM and deterministic, 1 is DDPM (Ho et al. 2020, with the posterior's variance).
        generator: of the noise; untouched if ``eta`` is 0.
        progress: called with (steps done, steps in all).
    """
    x = x.clone()
    for done, (t, earlier) in enumerate(pairwise(times), start=1):
        now, then = float(schedule[t]), float(schedule[earlier])
        sigma = eta * math.sqrt((1 - then) / (1 - now) * (1 - now / then))
        # of the noise in x, (x - √now x_0) / √(1 - now), what is left at the earlier time
        kept = math.sqrt(max(1 - then - sigma**2, 0.0) / (1 - now))
        x0 = denoise(x, t)
        x.mul_(kept).add_(x0, alpha=math.sqrt(then) - kept * math.sqrt(now))
        if sigma > 0:
            x.add_(gaussian_like(x, generator), alpha=sigma)
        if progress is not None:
            progress(done, len(times) - 1)
    return x


def gaussian_exact(
    denoise: Denoise,
    x: Tensor,
    schedule: Tensor,
    times: Sequence[int],
    eta: float,
    variance: Tensor,
    generator: torch.Generator,
    progress: Progress | None = None,
) -> Tensor:
    """DDPM (``eta`` = 1) or DDIM (0) without an error of discretisation where the data are Gaussian.

    ``ancestral`` in 50 steps of the cosine schedule loses 5 to 35 % of a Gaussian's variance although its
    denoiser is exact, since it treats x_0 as known within a step. Here x_0 is normal around the estimate,
    with the deviation that data of the given variance leave (the optimal reverse covariance of Bao et al.
    2022, arXiv:2201.06503). For DDIM the Gaussian part of the flow is integrated exactly, and only the
    estimate's departure from it is held constant over a step (an exponential integrator, Zhang and Chen
    2022, arXiv:2204.13902). In small steps both turn into ``ancestral``.

    Args:
        denoise: as in ``ancestral``, or to x_0 along the leading coordinates alone, (n, k): along the others it is that
            of the Gaussian, which moves without an estimate.
        variance: of x_0 along each coordinate, (width,); others as in ``ancestral``.
    """
    root, x = variance.sqrt(), x.clone()
    for done, (t, earlier) in enumerate(pairwise(times), start=1):
        now, then = float(schedule[t]), float(schedule[earlier])
        a, s, a_then, s_then = (math.sqrt(v) for v in (now, 1 - now, then, 1 - then))
        total, total_then = now * variance + s**2, then * variance + s_then**2
        x0 = denoise(x, t)
        k = x0.shape[1]
        deviation = root * s / total.sqrt()
        if eta > 0:
            sigma2 = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
            gain = math.sqrt(max(1 - then - sigma2, 0.0)) / s
            share = torch.full_like(root, a_then - gain * a)
            spread = (sigma2 + (share * deviation) ** 2).sqrt()
            kept = gain + share * a * variance / total
        else:
            # √total_then (x / √total + angle * departure) with departure = (x0 - a variance / total x) / deviation
            angle = torch.atan(s / (a * root)) - torch.atan(s_then / (a_then * root))
            share = total_then.sqrt() * angle / deviation
            kept = (total_then / total).sqrt()
        kept[:k] -= share[:k] * a * variance[:k] / total[:k]  # which the estimate brings
        x.mul_(kept)[:, :k].addcmul_(share[:k], x0)
        if eta > 0:
            x.addcmul_(spread, gaussian_like(x, generator))
        if progress is not None:
            progress(done, len(times) - 1)
    return x


def dpm_solver(
    denoise: Denoise,
    x: Tensor,
    schedule: Tensor,
    times: Sequence[int],
    progress: Progress | None = None,
) -> Tensor:
    """DPM-Solver++(2M): Lu et al. (2022), arXiv:2211.01095, algorithm 2.

    Deterministic, of second order with one evaluation a step; the first step and the one to time 0 are of
    first order. Arguments as in ``ancestral``.
    """
    previous: Tensor | None = None
    previous_width, x = 0.0, x.clone()
    for done, (t, earlier) in enumerate(pairwise(times), start=1):
        now, then = float(schedule[t]), float(schedule[earlier])
        x0 = denoise(x, t)
        # the step's width in log(signal / noise) is infinite towards time 0
        width = 0.5 * math.log(then / (1 - then) * (1 - now) / now) if then < 1 else math.inf
        gain = -math.sqrt(then) * math.expm1(-width)
        x.mul_(math.sqrt((1 - then) / (1 - now))).add_(x0, alpha=gain)
        if previous is not None and then < 1:
            ratio = width / (2 * previous_width)
            x.add_(x0, alpha=ratio * gain).add_(previous, alpha=-ratio * gain)
        previous, previous_width = x0, width
        if progress is not None:
            progress(done, len(times) - 1)
    return x


def draw(
    denoise: Denoise,
    x: Tensor,
    schedule: Tensor,
    times: Sequence[int],
    options: SamplerOptions,
    generator: torch.Generator,
    progress: Progress | None = None,
    variance: Tensor | None = None,
) -> Tensor:
    """Run the sampler that ``options`` names; ``variance``, if known, makes it exact for Gaussian data."""
    if options.name == "dpm_solver":
        return dpm_solver(denoise, x, schedule, times, progress)
    eta = 1.0 if options.name == "ddpm" else 0.0
    if variance is not None:
        return gaussian_exact(denoise, x, schedule, times, eta, variance, generator, progress)
    return ancestral(denoise, x, schedule, times, eta, generator, progress)


def along_line(
    denoise: Callable[[Tensor, float], Tensor],
    x: Tensor,
    intervals: int,
    method: str,
    variance: Tensor | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Follow the velocity eps - x_0 of x_t = (1 - t) x_0 + t eps from t = 1 to 0, in equal intervals.

    With ``variance`` given, the flow of normal data of that variance is integrated exactly, as
    ``gaussian_exact`` does: every coordinate is measured in deviations of x_t and time as an angle, in which
    that flow stands still, and the steps follow only the estimate's departure from it.

    Args:
        denoise: (x_t, t) to x_0; with ``variance``, to all or the leading coordinates, as in ``gaussian_exact``.
        x: standard normal noise, (n, width).
        method: ``euler``, of first order, one evaluation an interval; ``midpoint``, of second order, two.
        variance: of x_0 along each coordinate, (width,), or None.
        progress: called with (evaluations done, evaluations in all).
    """

    def velocity_at(x: Tensor, time: float) -> Tensor:
        x0 = denoise(x, time)
        if variance is None:
            return (x - x0).div_(time)
        modelled = variance[: x0.shape[1]]
        total = (1 - time) ** 2 * modelled + time**2
        gain = (total / modelled).sqrt() / time
        return ((1 - time) * modelled / total * gain * x[:, : len(modelled)]).addcmul_(gain, x0, value=-1)

    def step(x: Tensor, velocity: Tensor, now: float, then: float) -> Tensor:
        if variance is None:
            return torch.add(x, velocity, alpha=then - now)
        deviation, deviation_then = (((1 - t) ** 2 * variance + t**2).sqrt() for t in (now, then))
        root = variance.sqrt()
        angle, angle_then = (torch.atan2(torch.full_like(root, t), (1 - t) * root) for t in (now, then))
        moved, k = deviation_then / deviation * x, velocity.shape[1]
        moved[:, :k].addcmul_((deviation_then * (angle_then - angle))[:k], velocity)
        return moved

    evaluations = 2 if method == "midpoint" else 1
    for i in range(intervals):
        now, then = 1 - i / intervals, 1 - (i + 1) / intervals
        direction = velocity_at(x, now)
        if method == "midpoint":
            middle = (now + then) / 2
            direction = velocity_at(step(x, direction, now, middle), middle)
        x = step(x, direction, now, then)
        if progress is not None:
            progress((i + 1) * evaluations, intervals * evaluations)
    return x
