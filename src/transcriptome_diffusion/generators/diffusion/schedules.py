"""Noise schedules and the choice of timesteps, as pure functions.

Times run from 0 (data) to T (noise): ``alpha_bar`` has T + 1 entries, ``alpha_bar[0]`` is 1, and
``x_t = sqrt(alpha_bar[t]) x_0 + sqrt(1 - alpha_bar[t]) eps``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from transcriptome_diffusion.generators.options import LineTimesOptions, ScheduleOptions, TimesOptions


def linear_betas(timesteps: int, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """Betas (T,) of Ho et al. (2020), arXiv:2006.11239, float64."""
    return torch.linspace(start, end, timesteps, dtype=torch.float64)


def quadratic_betas(timesteps: int, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """Betas (T,) whose square roots are evenly spaced, as Lacan et al. use them, float64."""
    return torch.linspace(start**0.5, end**0.5, timesteps, dtype=torch.float64) ** 2


def cosine_betas(timesteps: int, offset: float = 0.008, largest: float = 0.999) -> Tensor:
    """Betas (T,) of Nichol and Dhariwal (2021), arXiv:2102.09672, eq. 17, float64."""
    share = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
    signal = torch.cos((share + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - signal[1:] / signal[:-1]).clamp(max=largest)


def alpha_bar(options: ScheduleOptions) -> Tensor:
    """The share of the signal's variance left at each time, (T + 1,) float64, falling from 1."""
    if options.kind == "cosine":
        betas = cosine_betas(options.timesteps)
    else:
        make = linear_betas if options.kind == "linear" else quadratic_betas
        betas = make(options.timesteps, options.beta_start, options.beta_end)
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - betas, dim=0)])


def sampling_times(schedule: Tensor, steps: int, spacing: str) -> list[int]:
    """The times a sampler visits, falling strictly to 0: ``steps`` + 1, fewer where rounding merges two.

    ``trailing`` and ``linspace`` start at T (Lin et al. 2024, arXiv:2305.08891, table 2), ``leading`` is the
    subset of Song et al. (2021) and starts short of it, ``log_snr`` is even in the logarithm of
    alpha_bar / (1 - alpha_bar).

    Args:
        schedule: alpha_bar, (T + 1,).
        steps: number of network evaluations, at most T.

    Raises:
        ValueError: if ``steps`` exceeds T or the spacing is unknown.
    """
    last = len(schedule) - 1
    if not 1 <= steps <= last:
        raise ValueError(
            f"{steps} sampling steps were asked for, the schedule has {last} timesteps; choose 1 to {last}."
        )
    even = torch.arange(steps, dtype=torch.float64)
    if spacing == "trailing":
        times = last - even * last / steps
    elif spacing == "linspace":
        times = 1 + ((last - 1) * (1 - even / max(steps - 1, 1))).round()
    elif spacing == "leading":
        times = 1 + (steps - 1 - even) * (last // steps)
    elif spacing == "log_snr":
        log_snr = torch.log(schedule[1:] / (1 - schedule[1:])).flip(0).contiguous()
        wanted = log_snr[0] + even * (log_snr[-1] - log_snr[0]) / max(steps - 1, 1)
        right = torch.searchsorted(log_snr, wanted.contiguous()).clamp(1, last - 1) if last > 1 else even.long()
        nearer = (wanted - log_snr[right - 1]) < (log_snr[right] - wanted)
        times = (last - torch.where(nearer, right - 1, right)).double()
    else:
        raise ValueError(f"unknown spacing {spacing!r}; known are trailing, linspace, leading and log_snr.")
    return [*dict.fromkeys(times.round().long().tolist()), 0]


def log_snr(schedule: Tensor) -> Tensor:
    """log(alpha_bar / (1 - alpha_bar)) at times T down to 1, so that it rises; (T,) float32."""
    return torch.log(schedule[1:] / (1 - schedule[1:])).flip(0).float().contiguous()


def training_times(count: int, log_snr: Tensor, options: TimesOptions, generator: torch.Generator) -> Tensor:
    """Random times from 1 to T, (count,) int64.

    For ``log_snr``, log(alpha_bar / (1 - alpha_bar)) is normal, one draw from each of ``count`` equally likely strata
    (Karras et al. 2022, arXiv:2206.00364; Kingma et al. 2021, arXiv:2107.00630). ``antithetic`` times come in pairs
    t and T + 1 - t. The argument ``log_snr`` is that of the function of this name.
    """
    last, device = len(log_snr), generator.device
    if options.kind == "log_snr":
        shift = torch.rand(1, generator=generator, device=device)
        place = (torch.arange(count, device=device) + shift) / count
        wanted = options.mean + options.deviation * torch.special.ndtri(place.clamp(1e-4, 1 - 1e-4))
        return (last - torch.searchsorted(log_snr, wanted)).clamp(1, last)
    half = count if options.kind == "uniform" else (count + 1) // 2
    t = torch.randint(1, last + 1, (half,), generator=generator, device=device)
    return t if options.kind == "uniform" else torch.cat([t, last + 1 - t])[:count]


def line_times(count: int, options: LineTimesOptions, generator: torch.Generator) -> Tensor:
    """Random times in (0, 1) for flow matching, one from each of ``count`` equally likely strata, (count,) float32.

    ``logit_normal`` is that of Esser et al. (2024), arXiv:2403.03206, eq. 19.
    """
    shift = torch.rand(1, generator=generator, device=generator.device)
    place = ((torch.arange(count, device=generator.device) + shift) / count).clamp(1e-4, 1 - 1e-4)
    if options.kind == "uniform":
        return place
    return torch.sigmoid(options.mean + options.deviation * torch.special.ndtri(place))
