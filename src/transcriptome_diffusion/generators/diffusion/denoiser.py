"""The denoiser, and the paths from data to noise along which it is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from transcriptome_diffusion.generators.diffusion import samplers, schedules
from transcriptome_diffusion.generators.diffusion.network import build_network
from transcriptome_diffusion.generators.diffusion.precondition import Preconditioner
from transcriptome_diffusion.generators.options import DenoiserOptions, LineTimesOptions, ScheduleOptions, TimesOptions
from transcriptome_diffusion.generators.scaler import Scaler

#: input (n, width), time, codes, rows and gain, as ``build_network`` has them, to the network's output
Network = Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor | None], Tensor]


class NoiseLevel(NamedTuple):
    """The mixture x_t = signal x_0 + noise eps: signal (n, 1), noise (n, 1), and time in [0, 1], (n,).

    Profiles of one level share the row of an n of 1.
    """

    signal: Tensor
    noise: Tensor
    time: Tensor


class Path(Protocol):
    """How data turn into noise in the forward process; also an ``nn.Module``."""

    def times(self, count: int, generator: torch.Generator) -> Tensor:
        """Random times to train at, (count,), on the generator's device."""

    def along(self, shares: Tensor) -> Tensor:
        """The times at shares of the path from data (0) to noise (1), in the unit of ``times``."""

    def at(self, times: Tensor) -> NoiseLevel:
        """The noise levels at these times."""

    def loss_weight(self, level: NoiseLevel, unknown: Tensor, width: int) -> Tensor:
        """Weight (n,) of a squared error of x_0 whose expectation for a Gaussian is ``unknown`` (n,)."""


class NoiseSchedule(nn.Module):
    """The discrete, variance-preserving path of diffusion: signal^2 + noise^2 = 1, times 0 to T."""

    alpha_bar: Tensor
    signal: Tensor
    noise: Tensor
    log_snr: Tensor

    def __init__(self, schedule: ScheduleOptions, times: TimesOptions) -> None:
        super().__init__()
        self.options = times
        self.alpha_bar = schedules.alpha_bar(schedule)
        self.register_buffer("signal", self.alpha_bar.sqrt().float(), persistent=False)
        self.register_buffer("noise", (1 - self.alpha_bar).sqrt().float(), persistent=False)
        self.register_buffer("log_snr", schedules.log_snr(self.alpha_bar), persistent=False)

    def times(self, count: int, generator: torch.Generator) -> Tensor:
        return schedules.training_times(count, self.log_snr.to(generator.device), self.options, generator)

    def along(self, shares: Tensor) -> Tensor:
        last = len(self.alpha_bar) - 1
        return (shares * last).round().long().clamp(1, last)

    def at(self, times: Tensor) -> NoiseLevel:
        return NoiseLevel(self.signal[times, None], self.noise[times, None], times / (len(self.alpha_bar) - 1))

    def loss_weight(self, level: NoiseLevel, unknown: Tensor, width: int) -> Tensor:
        """Every time has the same weight: the loss is 1 where the network adds nothing to the Gaussian."""
        return 1 / unknown


class StraightLine(nn.Module):
    """The path of flow matching: x_t = (1 - t) x_0 + t eps, whose velocity is eps - x_0.

    Lipman et al. (2023), arXiv:2210.02747, with their time reversed; Liu et al. (2023), arXiv:2209.03003.
    """

    def __init__(self, times: LineTimesOptions) -> None:
        super().__init__()
        self.options = times

    def times(self, count: int, generator: torch.Generator) -> Tensor:
        return schedules.line_times(count, self.options, generator)

    def along(self, shares: Tensor) -> Tensor:
        return shares

    def at(self, times: Tensor) -> NoiseLevel:
        return NoiseLevel(1 - times[:, None], times[:, None], times)

    def loss_weight(self, level: NoiseLevel, unknown: Tensor, width: int) -> Tensor:
        """The squared error of the velocity per coordinate is that of x_0 over the squared time."""
        return 1 / (level.noise[:, 0] ** 2 * width)


def clip(values: Tensor, limits: Tensor) -> Tensor:
    """Values (n, width) within limits (2, width)."""
    # NaN comes from an overflow in an earlier step
    return values.nan_to_num(0.0, posinf=torch.inf, neginf=-torch.inf).clamp_(limits[0], limits[1])


def share_changed(values: Tensor, others: Tensor) -> Tensor:
    """The share of values that differ from the others, a scalar."""
    return torch.count_nonzero(values != others) / values.numel()


class Parts(NamedTuple):
    """The estimate of x_0 before it is added up: ``skip * x_t``, and ``scale * output`` where there is an output.

    Attributes:
        skip, scale: (n, 1), or with a preconditioner (n, width) and (n, n_components). Those of one level have one row.
        output: of the network, (n, n_components).
        variance: of x_0 under the preconditioner's Gaussian, (n, width).
    """

    skip: Tensor
    scale: Tensor
    output: Tensor
    variance: Tensor | None


class Denoiser(nn.Module):
    """Estimates x_0 from x_t: ``x_0 = skip + scale * network(input, time, codes)``.

    With the prediction targets eps, v, x0 and velocity the coordinates are the scaled genes, and skip and scale are
    those of the target. With ``residual`` the coordinates are those of the preconditioner, skip is its Gaussian's exact
    estimate and scale the standard deviation of that estimate: an untrained network already samples the Gaussian. The
    network models the first ``n_components`` coordinates.
    """

    coordinate_range: Tensor
    gene_range: Tensor
    no_label: Tensor

    def __init__(
        self,
        options: DenoiserOptions,
        path: NoiseSchedule | StraightLine,
        n_genes: int,
        categories: Sequence[int],
        preconditioner: Preconditioner | None,
        n_components: int | None = None,
    ) -> None:
        super().__init__()
        self.options = options
        self.path = path
        self.scaler = Scaler(n_genes)
        self.preconditioner = preconditioner
        self.width = n_genes if preconditioner is None else preconditioner.width
        self.n_components = min(n_components or self.width, self.width)
        # with label dropout, the last entry of every table of labels stands for no label
        self.register_buffer("no_label", torch.tensor(list(categories)), persistent=False)
        tables = [count + (options.label_dropout > 0) for count in categories]
        self.network = build_network(self.width, self.n_components, tables, options.network)
        for name, width in (("coordinate_range", self.width), ("gene_range", n_genes)):
            self.register_buffer(name, torch.tensor([[-torch.inf], [torch.inf]]).repeat(1, width))

    @property
    def to_compile(self) -> Sequence[nn.Module]:
        return (self.network,)

    def to_coordinates(self, x: Tensor, codes: Tensor) -> Tensor:
        """Coordinates (n, width) of profiles x (n, n_genes) in their own unit."""
        z = self.scaler(x)
        return z if self.preconditioner is None else self.preconditioner.to_coordinates(z, codes)

    def from_coordinates(self, u: Tensor, codes: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Profiles (n, n_genes) in their own unit, and the share of values that were clipped, a scalar.

        ``generator`` draws the directions without a coordinate.
        """
        if self.preconditioner is not None:
            noise = samplers.gaussian_like(u, generator, (len(u), len(self.scaler.centre)))
            u = self.preconditioner.from_coordinates(u, codes, noise)
        clipped = clip(u, self.gene_range)
        return self.scaler.inverse(clipped), share_changed(u, clipped)

    def set_range(self, x: Tensor, u: Tensor) -> None:
        """Set the clipping range from profiles x and their coordinates u: theirs, and half of it on either side.

        A trained model does not reach it, since its estimates are means of profiles. An undertrained one does: few
        large steps amplify its errors without bound (as 1 / signal for ``eps``).
        """
        low, high = u.amin(0), u.amax(0)
        if self.preconditioner is not None:  # held-out donors may vary more than training profiles
            five_deviations = 5 * self.preconditioner.variance.sqrt()
            low, high = torch.minimum(low, -five_deviations), torch.maximum(high, five_deviations)
        z = self.scaler(x)
        for buffer, lowest, highest in (
            (self.coordinate_range, low, high),
            (self.gene_range, z.amin(0), z.amax(0)),
        ):
            beyond = 0.5 * (highest - lowest)
            buffer.copy_(torch.stack([lowest - beyond, highest + beyond]))

    def parts(
        self,
        x_t: Tensor,
        level: NoiseLevel,
        codes: Tensor,
        network: Network | None = None,
        rows: Tensor | None = None,
    ) -> Parts:
        """What the estimate for x_t (n, width) is made of; codes and rows are those of ``build_network``.

        ``network`` is that of ``guided``.
        """
        a, s, time = level
        gain = variance = None
        if self.preconditioner is None:
            skip, scale = samplers.skip_and_scale(self.options.prediction, a, s)
        else:
            # the network sees the Gaussian's estimate unwhitened: whitening would amplify the many axes that carry
            # little variance
            skip, gain, variance = self.preconditioner.posterior(a, s)
            scale = variance[:, : self.n_components].sqrt()
        return Parts(skip, scale, (network or self.network)(x_t, time, codes, rows, gain).float(), variance)

    def forward(
        self,
        x_t: Tensor,
        level: NoiseLevel,
        codes: Tensor,
        network: Network | None = None,
        rows: Tensor | None = None,
        columns: int | None = None,
    ) -> Tensor:
        """The estimate of x_0 along the first ``columns`` coordinates, all by default; the rest as in ``parts``."""
        parts = self.parts(x_t, level, codes, network, rows)
        estimate = parts.skip[:, :columns] * x_t[:, :columns]
        estimate[:, : self.n_components].addcmul_(parts.scale, parts.output)
        return estimate

    def guided(self, guidance: float) -> Network | None:
        """The network with the effect of its labels multiplied by ``guidance``; None, for the network, if that is 1.

        Classifier-free guidance, Ho and Salimans (2022), arXiv:2207.12598. Skip and scale stay those of the labels:
        with a preconditioner class means are not exaggerated, only what the labels change around them.
        """
        if guidance == 1:
            return None

        def network(x: Tensor, time: Tensor, codes: Tensor, rows: Tensor | None, gain: Tensor | None) -> Tensor:
            labels = torch.cat([codes, self.no_label.expand_as(codes)])
            rows = None if rows is None else torch.cat([rows, rows + len(codes)])
            times = time if len(time) == 1 else time.repeat(2)
            gain = gain if gain is None or len(gain) == 1 else gain.repeat(2, 1)
            with_label, without = self.network(x.repeat(2, 1), times, labels, rows, gain).chunk(2)
            return torch.lerp(without, with_label, guidance)

        return network

    def losses(self, u: Tensor, codes: Tensor, level: NoiseLevel, noise: Tensor, relative: bool = False) -> Tensor:
        """Mean squared error of the network's output for every profile, (n,); u and noise are (n, width).

        For eps this is Ho et al. (2020), arXiv:2006.11239, eq. 14; for velocity Lipman et al. (2023),
        arXiv:2210.02747, eq. 9; in general it is the squared error of x_0 over ``scale`` squared. For
        ``residual`` each axis is weighted by its share of the Gaussian's posterior variance at that time, and each
        time by the path's ``loss_weight``. ``relative`` subtracts the loss of a network whose output is zero; for
        ``residual`` that is the Gaussian alone.
        """
        x_t = torch.addcmul(level.noise * noise, level.signal, u)
        skip, scale, output, variance = self.parts(x_t, level, codes)
        missing = torch.addcmul(u, skip, x_t, value=-1)
        if self.preconditioner is None or variance is None:
            target = missing / scale
            error = (output - target) ** 2
            if relative:
                error = error - target**2
            return error.mean(1) if self.options.loss == "mean" else error.sum(1)
        k, weight = self.n_components, self.preconditioner.weight
        gained = scale * output
        # (missing - gained)^2 less missing^2, on the coordinates that the network models
        error = (gained * torch.sub(gained, missing[:, :k], alpha=2)) @ weight[:k]
        if not relative:
            error = error + missing.square() @ weight
        return error * self.path.loss_weight(level, variance @ weight, self.width)

    def loss(self, u: Tensor, codes: Tensor, level: NoiseLevel, noise: Tensor) -> Tensor:
        """The mean of ``losses`` over the profiles, a scalar."""
        return self.losses(u, codes, level, noise).mean()

    def training_loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        """The loss at random times; the batch is coordinates and codes."""
        u, codes = batch
        if self.preconditioner is not None:
            noise = torch.randn(u.shape, generator=generator, device=u.device)
            u = self.preconditioner.match_held_out_variance(u, noise)
        level = self.path.at(self.path.times(len(u), generator))
        noise = torch.randn(u.shape, generator=generator, device=u.device)
        if self.options.label_dropout > 0:
            dropped = torch.rand((len(u), 1), generator=generator, device=u.device) < self.options.label_dropout
            codes = torch.where(dropped, self.no_label, codes)
        return self.loss(u, codes, level, noise)

    def independent_loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        """The loss of profiles that the preconditioner was not fitted to; see ``dp_sgd.PrivatelyTrainable``."""
        u, codes = batch
        times = torch.cat([self.path.times(1, generator) for _ in u])  # stratified times depend on their number
        return self.loss(u, codes, self.path.at(times), torch.randn(u.shape, generator=generator))

    def validation_loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Loss at times drawn as in training; the same times and noise at every call."""
        u, codes = batch
        generator = torch.Generator().manual_seed(0)
        losses = []
        for _ in range(self.options.validation_repeats):
            times = self.path.times(len(u), generator)
            # stratified times rise, and profiles may be sorted
            times = times[torch.randperm(len(times), generator=generator)].to(u.device)
            losses.append(self.loss(u, codes, self.path.at(times), samplers.gaussian_like(u, generator)))
        return torch.stack(losses).mean()
