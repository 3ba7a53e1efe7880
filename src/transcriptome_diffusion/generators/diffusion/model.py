"""The diffusion generator: one denoiser, trained once, sampled by DDPM, DDIM or DPM-Solver++."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import ClassVar, Self

import anndata as ad
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from transcriptome_diffusion.artefacts import ArtefactError
from transcriptome_diffusion.devices import resolve_device
from transcriptome_diffusion.expression.profiles import dense
from transcriptome_diffusion.generators.base import Generator
from transcriptome_diffusion.generators.diffusion import samplers, schedules
from transcriptome_diffusion.generators.diffusion.network import build_network
from transcriptome_diffusion.generators.diffusion.precondition import GaussianSpace
from transcriptome_diffusion.parameters import DiffusionOptions, SamplerOptions

logger = logging.getLogger(__name__)


class Scaler(nn.Module):
    """Per-gene constants between the unit of the profiles and that of the network; saved with the weights."""

    centre: Tensor
    width: Tensor

    def __init__(self, n_genes: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(n_genes))
        self.register_buffer("width", torch.ones(n_genes))

    def fit(self, x: np.ndarray, kind: str) -> None:
        """Take mean and standard deviation (``standard``) or zero and the largest magnitude (``max_abs``)."""
        standard = kind == "standard"
        centre = x.mean(0, dtype=np.float64) if standard else np.zeros(x.shape[1])
        width = x.std(0, dtype=np.float64) if standard else np.abs(x).max(0)
        # a constant gene's deviation is rounding noise, not a scale
        constant = width <= 1e-6 * np.maximum(np.abs(x).max(0), 1e-30)
        self.centre.copy_(torch.from_numpy(centre))
        self.width.copy_(torch.from_numpy(np.where(constant, 0.0, width)))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.centre) / torch.where(self.width > 0, self.width, 1.0)

    def inverse(self, z: Tensor) -> Tensor:
        """Back to the profiles' unit; a gene that was constant in training comes back as that constant."""
        return self.centre + z * self.width


class Denoiser(nn.Module):
    """Estimates clean coordinates from noisy ones: ``x_0 = skip + scale * network(input, t / T, codes)``.

    With the prediction targets eps, v and x0 the coordinates are the scaled genes, and skip and scale are
    those of the target. With ``residual`` they are the principal axes of a class-conditional Gaussian, skip
    is the Gaussian's exact estimate and scale its uncertainty: an untrained network already samples it.
    """

    signal: Tensor
    noise: Tensor

    def __init__(
        self,
        options: DiffusionOptions,
        n_genes: int,
        categories: Sequence[int],
        space: GaussianSpace | None,
        learnt: int | None = None,
    ) -> None:
        super().__init__()
        self.options = options
        self.scaler = Scaler(n_genes)
        self.space = space
        self.width = n_genes if space is None else space.width
        self.learnt = min(learnt or self.width, self.width)
        self.network = build_network(self.width, self.learnt, categories, options.network)
        self.alpha_bar = schedules.alpha_bar(options.schedule)
        self.register_buffer("signal", self.alpha_bar.sqrt().float(), persistent=False)
        self.register_buffer("noise", (1 - self.alpha_bar).sqrt().float(), persistent=False)

    def encode(self, x: Tensor, codes: Tensor) -> Tensor:
        """Coordinates (n, width) of profiles x (n, n_genes) in their own unit."""
        z = self.scaler(x)
        return z if self.space is None else self.space.encode(z, codes)

    def decode(self, u: Tensor, codes: Tensor, generator: torch.Generator) -> Tensor:
        """Profiles (n, n_genes) in their own unit; ``generator`` fills directions without a coordinate."""
        if self.space is not None:
            u = self.space.decode(u, codes, samplers.gaussian_like(u, generator, (len(u), len(self.scaler.centre))))
        return self.scaler.inverse(u)

    def parts(self, x_t: Tensor, t: Tensor, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Skip, scale and the network's output for x_t (n, width), t (n,) and codes (n, n_conditions)."""
        a, s = self.signal[t, None], self.noise[t, None]
        if self.space is None:
            share, scale = samplers.skip_and_scale(self.options.prediction, a, s)
            skip, seen = share * x_t, x_t
        else:
            skip, scale, size = self.space.denoise(x_t, a, s)
            # in its natural scale: whitened, the many axes that carry little would drown the few that matter
            seen = skip / size
        output = self.network(seen, t / self.options.schedule.timesteps, codes).float()
        return skip, scale, nn.functional.pad(output, (0, self.width - self.learnt))

    def forward(self, x_t: Tensor, t: Tensor, codes: Tensor) -> Tensor:
        """The estimate of x_0, (n, width)."""
        skip, scale, output = self.parts(x_t, t, codes)
        return skip + scale * output

    def loss(self, u: Tensor, codes: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Mean squared error of the network's output, a scalar; u and noise are (n, width).

        For eps this is Ho et al. (2020), arXiv:2006.11239, eq. 14; in general it is the squared error of x_0
        over ``scale`` squared. For ``residual`` each axis counts by its share of what the Gaussian leaves
        unknown at that time, so that the loss is 1 where the network adds nothing.
        """
        skip, scale, output = self.parts(self.signal[t, None] * u + self.noise[t, None] * noise, t, codes)
        error = (output - (u - skip) / scale) ** 2
        if self.space is None:
            return error.mean()
        unknown = scale**2 * self.space.weight
        return (error * unknown / unknown.sum(1, keepdim=True)).sum(1).mean()

    def training_loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        """The loss at random times; the batch is coordinates and codes."""
        u, codes = batch
        if self.space is not None:
            u = self.space.widen(u, torch.randn(u.shape, generator=generator, device=u.device))
        t = schedules.training_times(len(u), self.alpha_bar, self.options.times, generator)
        return self.loss(u, codes, t, torch.randn(u.shape, generator=generator, device=u.device))

    def validation_loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Loss at times drawn as in training; the same times and noise at every call."""
        u, codes = batch
        generator = torch.Generator().manual_seed(0)
        losses = []
        for _ in range(self.options.validation_repeats):
            t = schedules.training_times(len(u), self.alpha_bar, self.options.times, generator)
            # stratified times rise, and profiles may be sorted
            t = t[torch.randperm(len(t), generator=generator)].to(u.device)
            losses.append(self.loss(u, codes, t, samplers.gaussian_like(u, generator)))
        return torch.stack(losses).mean()


class Diffusion(Generator):
    """Denoising diffusion on per-gene scaled profiles, conditioned on any number of categorical covariates.

    Ho et al. (2020), arXiv:2006.11239; Song et al. (2021), arXiv:2010.02502; Lacan et al. for transcriptomes.
    """

    name: ClassVar[str] = "diffusion"

    denoiser: Denoiser

    @classmethod
    def fit(cls, train: ad.AnnData, validation: ad.AnnData, options: DiffusionOptions) -> Self:
        """Train the denoiser; validation donors choose the step whose averaged weights are kept.

        Raises:
            ValueError: on unknown labels or differing genes.
            TrainingDivergedError: if the loss is not finite; nothing is kept then.
        """
        from transcriptome_diffusion import training

        model = cls(**cls._common(train, validation, options))
        counts = model._counts()
        x, codes = torch.from_numpy(dense(train)), torch.from_numpy(model.conditions.encode(train.obs))
        x_other = torch.from_numpy(dense(validation))
        codes_other = torch.from_numpy(model.conditions.encode(validation.obs))
        scaler = Scaler(train.n_vars)
        scaler.fit(x.numpy(), options.scaling)
        u, space, learnt = scaler(x), None, None
        if options.prediction == "residual":
            donors = train.obs.get("donor", train.obs_names).to_numpy()
            space, u = GaussianSpace.fit(u.numpy(), codes.numpy(), counts, donors, options.loudness)
            learnt = 1 + max(round(options.learnt_axes * len(x)), 1)  # the first coordinate is no axis
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            model.denoiser = Denoiser(options, train.n_vars, counts, space, learnt)
        model.denoiser.scaler = scaler
        with torch.no_grad():
            u_other = model.denoiser.encode(x_other, codes_other)
        model.record = training.fit(
            model.denoiser,
            (u, codes),
            (u_other, codes_other),
            options.training,
            options.seed,
            title="denoiser",
        )
        return model

    def _counts(self) -> list[int]:
        return [len(known) for known in self.conditions.categories.values()]

    def _state(self) -> dict[str, np.ndarray]:
        return {name: tensor.numpy() for name, tensor in self.denoiser.state_dict().items()}

    def _restore(self, tensors: dict[str, np.ndarray]) -> None:
        options = DiffusionOptions.model_validate(self.settings)
        counts, n_genes = self._counts(), len(self.genes)
        space = None
        try:
            if options.prediction == "residual":
                space = GaussianSpace(counts, n_genes, len(tensors["space.slope"]))
            self.denoiser = Denoiser(options, n_genes, counts, space, len(tensors["network.out.bias"]))
            self.denoiser.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
        except (KeyError, RuntimeError) as error:
            raise ArtefactError(
                f"the weights do not fit the settings beside them ({error}); train the model again."
            ) from error
        self.denoiser.eval()

    def sample(
        self,
        labels: pd.DataFrame,
        seed: int,
        batch_size: int = 1024,
        sampler: SamplerOptions | None = None,
        progress: samplers.Progress | None = None,
    ) -> ad.AnnData:
        """Draw one profile per row of ``labels``, as ``Generator.sample`` does.

        Args:
            labels: a sample table with a column per condition.
            seed: the same seed gives the same profiles.
            batch_size: how many profiles are in work at once.
            sampler: which sampler and how many steps; by default that of the settings.
            progress: called with (network evaluations done, in all).

        Returns:
            Profiles whose ``uns["generator"]`` bears the sampler's name (``ddpm``, ``ddim``, ``dpm_solver``)
            and its settings.
        """
        sampler = sampler or DiffusionOptions.model_validate(self.settings).sampler
        values = self._sampled(self.conditions.encode(labels), seed, batch_size, sampler, progress)
        return self._bundle(values, labels, seed, name=sampler.name, sampler=sampler.model_dump(mode="json"))

    def _draw(self, codes: np.ndarray, seed: int, batch_size: int) -> np.ndarray:
        options = DiffusionOptions.model_validate(self.settings)
        return self._sampled(codes, seed, batch_size, options.sampler, None)

    @torch.no_grad()
    def _sampled(
        self,
        codes: np.ndarray,
        seed: int,
        batch_size: int,
        sampler: SamplerOptions,
        progress: samplers.Progress | None,
    ) -> np.ndarray:
        device = resolve_device(sampler.device)
        schedule = self.denoiser.alpha_bar
        times = schedules.sampling_times(schedule, sampler.steps, sampler.spacing)
        generator = torch.Generator().manual_seed(seed)
        denoiser = self.denoiser.to(device).eval()
        values = np.empty((len(codes), len(self.genes)), dtype=np.float32)
        total = (len(times) - 1) * -(-len(codes) // batch_size)
        for start in range(0, len(codes), batch_size):
            chosen = torch.from_numpy(codes[start : start + batch_size]).to(device)
            x = samplers.gaussian_like(denoiser.scaler.centre, generator, (len(chosen), denoiser.width))

            def denoise(x_t: Tensor, t: int, chosen: Tensor = chosen) -> Tensor:
                return denoiser(x_t, torch.full((len(x_t),), t, device=device), chosen)

            def report(done: int, of: int, start: int = start) -> None:
                if progress is not None:
                    progress(start // batch_size * of + done, total)

            space = denoiser.space if sampler.exact_gaussian else None
            variance = None if space is None else space.variance
            x = samplers.draw(denoise, x, schedule, times, sampler, generator, report, variance)
            values[start : start + batch_size] = denoiser.decode(x, chosen, generator).cpu().numpy()
        self.denoiser.to("cpu")
        return values
