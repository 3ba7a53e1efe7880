"""Generators that sample a trained denoiser: diffusion (DDPM, DDIM, DPM-Solver++) and flow matching."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import anndata as ad
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from transcriptome_diffusion.artefacts import ArtefactError
from transcriptome_diffusion.devices import resolve_device
from transcriptome_diffusion.expression.profiles import dense, require_same_genes
from transcriptome_diffusion.generators.base import Generator
from transcriptome_diffusion.generators.diffusion import samplers, schedules
from transcriptome_diffusion.generators.diffusion.denoiser import Denoiser, NoiseSchedule, StraightLine
from transcriptome_diffusion.generators.diffusion.precondition import (
    GaussianSpace,
    fit_coordinates,
    learnt_coordinates,
    memory_to_fit,
)
from transcriptome_diffusion.generators.options import (
    DenoiserOptions,
    DiffusionOptions,
    FlowMatchingOptions,
    LineSamplerOptions,
    SamplerOptions,
)

logger = logging.getLogger(__name__)

#: a share of values held at the edge of the range above this one says that a model is undertrained
HELD = 1e-3

#: where along the way to noise losses of single profiles are compared
LOSS_TIMES = tuple(round(0.04 * i, 2) for i in range(1, 25))

Clean = Callable[[Tensor, Tensor], Tensor]


class DenoisingGenerator(Generator):
    """What diffusion and flow matching share: one denoiser on per-gene scaled profiles, its training, its range.

    Conditioned on any number of categorical covariates. A subclass says along which path noise is added and
    how the way back is taken.
    """

    options: ClassVar[type[DenoiserOptions]]

    denoiser: Denoiser

    @classmethod
    @abstractmethod
    def _path(cls, options: Any) -> NoiseSchedule | StraightLine:
        """The path from data to noise."""

    @abstractmethod
    def _way_back(
        self, sampler: Any, clean: Clean, x: Tensor, generator: torch.Generator, progress: samplers.Progress
    ) -> Tensor:
        """Clean coordinates from noise x (n, width); ``clean`` maps a state and times (n,) to its estimate."""

    @abstractmethod
    def _evaluations(self, sampler: Any) -> int:
        """Network evaluations per batch."""

    @classmethod
    def fit(cls, train: ad.AnnData, validation: ad.AnnData, options: DenoiserOptions) -> Self:
        """Train the denoiser; validation donors choose the step whose averaged weights are kept.

        Raises:
            ValueError: on unknown labels or differing genes.
            TrainingDivergedError: if the loss was never finite.
        """
        from transcriptome_diffusion import training

        model = cls(**cls._common(train, validation, options))
        counts = model.conditions.sizes
        x, codes = dense(train), model.conditions.encode(train.obs)
        x_other = torch.from_numpy(dense(validation))
        codes_other = torch.from_numpy(model.conditions.encode(validation.obs))
        donors = train.obs.get("donor", train.obs_names).to_numpy()
        loudness = options.loudness if options.prediction == "residual" else None
        scaler, space, u = fit_coordinates(x, codes, counts, donors, options.scaling, loudness)
        learnt = None
        if space is not None:
            learnt = learnt_coordinates(space, len(x), options.learnt_axes, options.learnt_variance)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            model.denoiser = Denoiser(options, cls._path(options), train.n_vars, counts, space, learnt)
        model.denoiser.scaler = scaler
        model.denoiser.set_range(torch.from_numpy(x), u)
        with torch.no_grad():
            u_other = model.denoiser.encode(x_other, codes_other)
        model.record = training.fit(
            model.denoiser,
            (u, torch.from_numpy(codes)),
            (u_other, codes_other),
            options.training,
            options.seed,
            title=cls.name,
        )
        return model

    @classmethod
    def _memory_to_fit(cls, profiles: int, others: int, genes: int, options: DenoiserOptions) -> float:
        if options.prediction == "residual":
            return memory_to_fit(profiles, genes)
        return (12.0 * profiles + 60.0 * others) * genes

    def _state(self) -> dict[str, np.ndarray]:
        return {name: tensor.numpy() for name, tensor in self.denoiser.state_dict().items()}

    def _restore(self, tensors: dict[str, np.ndarray]) -> None:
        options = self.options.model_validate(self.settings)
        counts, n_genes = self.conditions.sizes, len(self.genes)
        space = None
        try:
            if options.prediction == "residual":
                space = GaussianSpace(counts, n_genes, len(tensors["space.slope"]))
            path = self._path(options)
            self.denoiser = Denoiser(options, path, n_genes, counts, space, len(tensors["network.out.bias"]))
            self.denoiser.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
        except (KeyError, RuntimeError) as error:
            raise ArtefactError(
                f"the weights do not fit the settings beside them ({error}); train the model again."
            ) from error
        self.denoiser.eval()

    def _draw(self, codes: np.ndarray, seed: int, batch_size: int) -> np.ndarray:
        return self._sampled(codes, seed, batch_size, self._sampler(), None)

    def _sampler(self) -> Any:
        """The sampler of the settings."""
        options: Any = self.options.model_validate(self.settings)
        return options.sampler

    @contextmanager
    def _on(self, device: torch.device) -> Iterator[Denoiser]:
        """The denoiser on a device, and back on the CPU whatever happens."""
        try:
            yield self.denoiser.to(device).eval()
        finally:
            self.denoiser.to("cpu")

    @torch.no_grad()
    def _sampled(
        self,
        codes: np.ndarray,
        seed: int,
        batch_size: int,
        sampler: Any,
        progress: samplers.Progress | None,
    ) -> np.ndarray:
        generator = torch.Generator().manual_seed(seed)
        values = np.empty((len(codes), len(self.genes)), dtype=np.float32)
        total = self._evaluations(sampler) * -(-len(codes) // batch_size)
        held = []
        device = resolve_device(sampler.device)
        with self._on(device) as denoiser:
            for start in range(0, len(codes), batch_size):
                chosen = torch.from_numpy(codes[start : start + batch_size]).to(device)
                x = samplers.gaussian_like(denoiser.scaler.centre, generator, (len(chosen), denoiser.width))
                share = torch.zeros((), device=device)

                def clean(x_t: Tensor, times: Tensor, chosen: Tensor = chosen) -> Tensor:
                    nonlocal share
                    estimate, share = denoiser.held(x_t, denoiser.path.at(times), chosen)
                    return estimate

                def report(done: int, of: int, start: int = start) -> None:
                    if progress is not None:
                        progress(start // batch_size * of + done, total)

                x = self._way_back(sampler, clean, x, generator, report)
                profiles, share_of_genes = denoiser.decode(x, chosen, generator)
                held.append(len(chosen) * float(torch.maximum(share, share_of_genes)))
                values[start : start + batch_size] = profiles.cpu().numpy()
        if sum(held) > HELD * len(codes):
            logger.warning(
                "%s: %.1f %% of the drawn values were held at the edge of what training profiles show. The model "
                "is undertrained (or its training diverged): raise `training.max_steps`, or take more `steps`.",
                sampler.name,
                100 * sum(held) / len(codes),
            )
        return values

    def sample(
        self,
        labels: pd.DataFrame,
        seed: int,
        batch_size: int = 1024,
        sampler: Any = None,
        progress: samplers.Progress | None = None,
    ) -> ad.AnnData:
        """Draw one profile per row of ``labels``, as ``Generator.sample`` does.

        However short the training and however few the steps, values are finite, and within half the range
        of the training profiles beyond it; a warning says where that had to be enforced.

        Args:
            labels: a sample table with a column per condition.
            seed: the same seed gives the same profiles.
            batch_size: how many profiles are in work at once.
            sampler: which sampler and how many steps; by default that of the settings.
            progress: called with (network evaluations done, in all).

        Returns:
            Profiles whose ``uns["generator"]`` bears the sampler's name (``ddpm``, ``ddim``, ``dpm_solver``,
            ``flow_matching``) and its settings.
        """
        sampler = sampler or self._sampler()
        drawn = self._sampled(self.conditions.encode(labels), seed, batch_size, sampler, progress)
        return self._bundle(self._held(drawn), labels, seed, name=sampler.name, sampler=sampler.model_dump(mode="json"))

    @torch.no_grad()
    def trajectory(
        self, labels: pd.DataFrame, seed: int, at: Sequence[float] = (1.0, 0.6, 0.2, 0.0), sampler: Any = None
    ) -> dict[float, ad.AnnData]:
        """The way from noise to profiles: what the sampler holds at shares of the way to noise.

        A state is shown as genes, as if the scaled genes themselves had been diffused: ``prediction: residual``
        diffuses what is left beyond the class means, which therefore are added with the state's share of signal. Pure
        noise then knows no class.

        Args:
            labels: a sample table with a column per condition; its profiles are drawn in one batch.
            seed: of the noise; the state at 0 is what ``sample`` draws.
            at: shares of the way from data (0) to noise (1); of each the nearest time that the sampler visits is taken.
            sampler: as in ``sample``.

        Returns:
            For every share n profiles in the unit of training, with the share of the way and the share of signal
            in ``uns["generator"]``.
        """
        sampler = sampler or self._sampler()
        chosen = torch.from_numpy(self.conditions.encode(labels))
        generator = torch.Generator().manual_seed(seed)
        visited: dict[float, tuple[float, float, Tensor]] = {}
        with self._on(torch.device("cpu")) as denoiser:

            def visit(time: float, signal: float, x_t: Tensor) -> None:
                for share in at:
                    if share not in visited or abs(time - share) < abs(visited[share][0] - share):
                        visited[share] = time, signal, x_t

            def clean(x_t: Tensor, times: Tensor) -> Tensor:
                level = denoiser.path.at(times)
                visit(float(level.time[0]), float(level.signal[0]), x_t)
                return denoiser.held(x_t, level, chosen)[0]

            noise = samplers.gaussian_like(denoiser.scaler.centre, generator, (len(chosen), denoiser.width))
            x = self._way_back(sampler, clean, noise, generator, lambda done, of: None)
            visit(0.0, 1.0, x)
            states = {}
            for share, (time, signal, x_t) in sorted(visited.items(), reverse=True):
                filling = torch.Generator().set_state(generator.get_state())
                if share and denoiser.space is not None:
                    outside = samplers.gaussian_like(x_t, filling, (len(x_t), len(self.genes)))
                    centred = denoiser.space.decode(x_t, chosen, outside) - denoiser.space.mean(chosen)
                    x_t = centred + signal * denoiser.space.mean(chosen)
                shown = denoiser.scaler.inverse(x_t) if share else denoiser.decode(x_t, chosen, filling)[0]
                how = {"time": time, "signal": signal, "sampler": sampler.model_dump(mode="json")}
                values = shown.numpy() if share else self._held(shown.numpy())
                states[share] = self._bundle(values, labels, seed, name=sampler.name, **how)
        return states

    @torch.no_grad()
    def per_profile_loss(
        self,
        profiles: ad.AnnData,
        seed: int,
        times: Sequence[float] = LOSS_TIMES,
        noises: int = 2,
        relative: bool = False,
        batch_size: int = 1024,
    ) -> np.ndarray:
        """The training loss of every profile at fixed times, (n, n_times) float32: what a white-box attack reads.

        All profiles meet the same noise, so that they differ by themselves alone, and a profile's losses do not
        depend on the others. With ``prediction: residual`` the coordinates are those in which other donors are
        encoded, for training profiles too: an attacker does not know which is which.

        Args:
            profiles: (n, n_genes), in the unit and with the genes of training, ``obs`` with every condition.
            seed: of the noise.
            times: shares of the way from data to noise, within (0, 1].
            noises: draws of noise per time, over which the loss is averaged.
            relative: less the loss of a network that says zero (for ``residual``, of the Gaussian alone), which
                stands for how hard a profile is (Watson et al. 2022, arXiv:2111.08440).
            batch_size: how many profiles are in work at once; it bounds memory.

        Raises:
            ValueError: if a time lies outside (0, 1], genes differ, or a label is unknown.
        """
        if not times or not 0 < min(times) <= max(times) <= 1:
            raise ValueError(f"times are shares of the way to noise, above 0 and at most 1; found {list(times)}.")
        require_same_genes(profiles, self.genes.index, self.name)
        x, codes = torch.from_numpy(dense(profiles)), torch.from_numpy(self.conditions.encode(profiles.obs))
        found = torch.zeros(len(x), len(times))
        device = resolve_device(self._sampler().device)
        with self._on(device) as denoiser:
            places = denoiser.path.along(torch.tensor(times, device=device))
            for rows in torch.arange(len(x)).split(batch_size):
                chosen = codes[rows].to(device)
                u = denoiser.encode(x[rows].to(device), chosen)
                generator = torch.Generator().manual_seed(seed)
                for column, place in enumerate(places):
                    level = denoiser.path.at(place.expand(len(rows)))
                    for _ in range(noises):
                        noise = samplers.gaussian_like(u, generator, (1, denoiser.width)).expand_as(u)
                        found[rows, column] += denoiser.losses(u, chosen, level, noise, relative).cpu() / noises
        return found.numpy()


class Diffusion(DenoisingGenerator):
    """Denoising diffusion; one denoiser, sampled by DDPM, DDIM or DPM-Solver++.

    Ho et al. (2020), arXiv:2006.11239; Song et al. (2021), arXiv:2010.02502; Lacan et al. for transcriptomes.
    """

    name: ClassVar[str] = "diffusion"
    options: ClassVar[type[DenoiserOptions]] = DiffusionOptions

    @classmethod
    def _path(cls, options: DiffusionOptions) -> NoiseSchedule:
        return NoiseSchedule(options.schedule, options.times)

    @property
    def _alpha_bar(self) -> Tensor:
        assert isinstance(self.denoiser.path, NoiseSchedule)
        return self.denoiser.path.alpha_bar

    def _times(self, sampler: SamplerOptions) -> list[int]:
        return schedules.sampling_times(self._alpha_bar, sampler.steps, sampler.spacing)

    def _evaluations(self, sampler: SamplerOptions) -> int:
        return len(self._times(sampler)) - 1

    def _way_back(
        self, sampler: SamplerOptions, clean: Clean, x: Tensor, generator: torch.Generator, progress: samplers.Progress
    ) -> Tensor:
        space = self.denoiser.space if sampler.exact_gaussian else None
        return samplers.draw(
            lambda x_t, t: clean(x_t, torch.full((len(x_t),), t, device=x_t.device)),
            x,
            self._alpha_bar,
            self._times(sampler),
            sampler,
            generator,
            progress,
            None if space is None else space.variance,
        )


class FlowMatching(DenoisingGenerator):
    """Flow matching on the network of diffusion: straight paths, sampled by Euler or midpoint steps.

    Lipman et al. (2023), arXiv:2210.02747; Liu et al. (2023), arXiv:2209.03003.
    """

    name: ClassVar[str] = "flow_matching"
    options: ClassVar[type[DenoiserOptions]] = FlowMatchingOptions

    @classmethod
    def _path(cls, options: FlowMatchingOptions) -> StraightLine:
        return StraightLine(options.times)

    def _evaluations(self, sampler: LineSamplerOptions) -> int:
        return sampler.intervals * (2 if sampler.method == "midpoint" else 1)

    def _way_back(
        self,
        sampler: LineSamplerOptions,
        clean: Clean,
        x: Tensor,
        generator: torch.Generator,
        progress: samplers.Progress,
    ) -> Tensor:
        space = self.denoiser.space if sampler.exact_gaussian else None
        return samplers.along_line(
            lambda x_t, time: clean(x_t, torch.full((len(x_t),), time, device=x_t.device)),
            x,
            sampler.intervals,
            sampler.method,
            None if space is None else space.variance,
            progress,
        )
