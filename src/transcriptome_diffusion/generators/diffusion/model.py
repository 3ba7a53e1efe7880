"""Generators that sample a trained denoiser: diffusion (DDPM, DDIM, DPM-Solver++) and flow matching."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import anndata as ad
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from transcriptome_diffusion.devices import memory_to_train, resolve_device, seeded
from transcriptome_diffusion.expression.profiles import dense, require_same_genes
from transcriptome_diffusion.generators.base import Generator
from transcriptome_diffusion.generators.diffusion import samplers, schedules
from transcriptome_diffusion.generators.diffusion.denoiser import (
    Denoiser,
    Network,
    NoiseLevel,
    NoiseSchedule,
    StraightLine,
    clip,
    share_changed,
)
from transcriptome_diffusion.generators.diffusion.network import build_network
from transcriptome_diffusion.generators.diffusion.precondition import (
    Preconditioner,
    fit_coordinates,
    memory_to_fit,
)
from transcriptome_diffusion.generators.diffusion.replay import ReplayedNetwork
from transcriptome_diffusion.generators.diffusion.sizes import resolve_sizes
from transcriptome_diffusion.generators.options import (
    DenoiserOptions,
    DiffusionOptions,
    FlowMatchingOptions,
    LineSamplerOptions,
    SamplerOptions,
)

logger = logging.getLogger(__name__)

#: a larger share of clipped values says that a model is undertrained
CLIPPED = 1e-3

#: shares of the path from data to noise at which losses of single profiles are compared
LOSS_TIMES = tuple(round(0.04 * i, 2) for i in range(1, 25))

#: network evaluations per profile of the draws that the marginal map is fitted to
MAP_EVALUATIONS = 10

EstimateX0 = Callable[[Tensor, Tensor], Tensor]
#: a state and its noise level to the estimate of x_0, and to the same clipped
Estimator = Callable[[Tensor, NoiseLevel], tuple[Tensor, Tensor]]


def classes_of(codes: np.ndarray) -> tuple[Tensor, Tensor]:
    """The different rows of codes (n, n_conditions), and which of them each profile has, (n,)."""
    classes, rows = np.unique(codes, axis=0, return_inverse=True)
    return torch.from_numpy(classes), torch.from_numpy(rows.reshape(-1))


class DenoisingGenerator(Generator):
    """What diffusion and flow matching share: one denoiser on per-gene scaled profiles, its training, its range.

    Conditioned on any number of categorical covariates. A subclass writes ``noise_path``, ``reverse_process`` and
    ``evaluations``.
    """

    options: ClassVar[type[DenoiserOptions]]

    denoiser: Denoiser

    @classmethod
    @abstractmethod
    def noise_path(cls, options: Any) -> NoiseSchedule | StraightLine:
        """The path from data to noise, along which the denoiser is trained."""

    @abstractmethod
    def reverse_process(
        self, sampler: Any, estimate_x0: EstimateX0, x: Tensor, generator: torch.Generator, progress: samplers.Progress
    ) -> Tensor:
        """Coordinates of profiles from noise x (n, width); ``estimate_x0`` maps a state and its time (1,) to x_0.

        Where ``exact_variance`` is known, that is x_0 along the coordinates that the network models.
        """

    @abstractmethod
    def evaluations(self, sampler: Any) -> int:
        """Network evaluations that ``reverse_process`` makes."""

    @abstractmethod
    def sampler_for_map(self) -> Any:
        """The sampler of the settings with ``MAP_EVALUATIONS``: all samplers of a model share its marginal map."""

    def draw_for_map(self, codes: np.ndarray, seed: int) -> np.ndarray:
        return self.sample_codes(codes, seed, 1024, self.sampler_for_map())

    @classmethod
    def fit_model(cls, train: ad.AnnData, validation: ad.AnnData, options: DenoiserOptions) -> Self:
        """Train the denoiser; validation donors choose the step whose averaged weights are kept.

        Raises:
            ValueError: on unknown labels or differing genes.
            TrainingDivergedError: if the loss was never finite.
        """
        from transcriptome_diffusion import training

        options, sizes = resolve_sizes(options, train.n_obs)
        model = cls(**cls.checked(train, validation, options))
        counts = model.conditions.sizes
        x, codes = dense(train), model.conditions.to_codes(train.obs)
        x_other = torch.from_numpy(dense(validation))
        codes_other = torch.from_numpy(model.conditions.to_codes(validation.obs))
        donors = train.obs.get("donor", train.obs_names).to_numpy()
        scaler, preconditioner, n_components, u = fit_coordinates(x, codes, counts, donors, options)
        with seeded(options.seed):
            path = cls.noise_path(options)
            model.denoiser = Denoiser(options, path, train.n_vars, counts, preconditioner, n_components)
        model.denoiser.scaler = scaler
        if options.clip:
            model.denoiser.set_range(torch.from_numpy(x), u)
        with torch.no_grad():
            u_other = model.denoiser.to_coordinates(x_other, codes_other)
        model.record = training.fit(
            model.denoiser,
            (u, torch.from_numpy(codes)),
            (u_other, codes_other),
            options.training,
            options.seed,
            title=cls.name,
        )
        if sizes:
            model.record["automatic_sizes"] = sizes
        return model

    @classmethod
    def memory_to_fit(cls, profiles: int, others: int, genes: int, options: DenoiserOptions) -> float:
        if options.preconditioned:
            return memory_to_fit(profiles, genes)
        if options.train_on == "train_and_validation":
            profiles += others
        options, _ = resolve_sizes(options, profiles)
        categories = [2] * len(options.conditions)  # their number hardly matters
        network = memory_to_train(lambda: build_network(genes, genes, categories, options.network))
        return (12.0 * profiles + 60.0 * others) * genes + network

    def state(self) -> dict[str, np.ndarray]:
        return {name: tensor.numpy() for name, tensor in self.denoiser.state_dict().items()}

    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        options = self.options.model_validate(self.settings)
        counts, n_genes, preconditioner = self.conditions.sizes, len(self.genes), None
        if options.preconditioned:
            preconditioner = Preconditioner(counts, n_genes, len(tensors["preconditioner.exponent"]))
        path, n_components = self.noise_path(options), len(tensors["network.out.bias"])
        self.denoiser = Denoiser(options, path, n_genes, counts, preconditioner, n_components)
        self.denoiser.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
        self.denoiser.eval()

    def _sampler(self, chosen: Any = None) -> Any:
        """The chosen sampler, or that of the settings.

        Raises:
            ValueError: if it needs guidance and training never left out the labels.
        """
        options: Any = self.options.model_validate(self.settings)
        sampler = chosen or options.sampler
        if sampler.guidance != 1 and options.label_dropout == 0:
            raise ValueError(
                f"`guidance` is {sampler.guidance:g}, and this model was trained with labels alone: set "
                "`label_dropout` of its parameters to 0.1, for instance, and train it again, or leave `guidance` at 1."
            )
        return sampler

    @contextmanager
    def _on(self, device: torch.device) -> Iterator[Denoiser]:
        """The denoiser on a device, and back on the CPU whatever happens."""
        try:
            yield self.denoiser.to(device).eval()
        finally:
            self.denoiser.to("cpu")

    def exact_variance(self, sampler: Any) -> Tensor | None:
        """Of x_0 along each coordinate, if ``sampler`` makes no error of discretisation in the Gaussian part."""
        preconditioner = self.denoiser.preconditioner
        if preconditioner is None or not sampler.exact_gaussian or sampler.name == "dpm_solver":
            return None
        return preconditioner.variance

    def estimator(self, sampler: Any, classes: Tensor, rows: Tensor, network: Network | None) -> Estimator:
        """Estimates x_0 for profiles of ``classes_of``, as ``reverse_process`` takes them; ``network`` as in ``parts``.

        Coordinates that the network does not model are not clipped where the Gaussian part is exact: their estimates
        are normal, and the range is ten deviations or more on either side.
        """
        denoiser = self.denoiser
        codes, of = (classes, rows) if len(classes) <= len(rows) else (classes[rows], None)
        columns = None if self.exact_variance(sampler) is None else denoiser.n_components
        limits = denoiser.coordinate_range[:, :columns]

        def estimate(x_t: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
            found = denoiser(x_t, level, codes, network, of, columns)
            return found, clip(found, limits)

        return estimate

    @torch.no_grad()
    def sample_codes(
        self,
        codes: np.ndarray,
        seed: int,
        batch_size: int,
        sampler: Any = None,
        progress: samplers.Progress | None = None,
    ) -> np.ndarray:
        sampler = self._sampler(sampler)
        generator = torch.Generator().manual_seed(seed)
        values = np.empty((len(codes), len(self.genes)), dtype=np.float32)
        total = self.evaluations(sampler) * -(-len(codes) // batch_size)
        clipped = 0.0
        device = resolve_device(sampler.device)
        with self._on(device) as denoiser:
            network = denoiser.guided(sampler.guidance)
            if device.type == "cuda":
                network = ReplayedNetwork(network or denoiser.network)
            classes, rows = (found.to(device) for found in classes_of(codes))
            for start in range(0, len(codes), batch_size):
                chosen = torch.from_numpy(codes[start : start + batch_size]).to(device)
                x = samplers.gaussian_like(denoiser.scaler.centre, generator, (len(chosen), denoiser.width))
                estimate = self.estimator(sampler, classes, rows[start : start + batch_size], network)
                found = clipped_found = x

                def estimate_x0(x_t: Tensor, times: Tensor, estimate: Estimator = estimate) -> Tensor:
                    nonlocal found, clipped_found
                    found, clipped_found = estimate(x_t, denoiser.path.at(times))
                    return clipped_found

                def report(done: int, of: int, start: int = start) -> None:
                    if progress is not None:
                        progress(start // batch_size * of + done, total)

                x = self.reverse_process(sampler, estimate_x0, x, generator, report)
                profiles, share_of_genes = denoiser.from_coordinates(x, chosen, generator)
                share = share_changed(found, clipped_found) * found.shape[1] / denoiser.width
                clipped += len(chosen) * float(torch.maximum(share, share_of_genes))
                values[start : start + batch_size] = profiles.cpu().numpy()
        if clipped > CLIPPED * len(codes):
            logger.warning(
                "%s: %.1f %% of the drawn values were clipped to the range that training profiles show. The model is "
                "undertrained (or its training diverged): raise `training.max_steps`, or take more `steps`.",
                sampler.name,
                100 * clipped / len(codes),
            )
        return values

    def sample(
        self,
        labels: pd.DataFrame | Mapping[str, int] | None = None,
        seed: int = 0,
        batch_size: int = 1024,
        sampler: Any = None,
        progress: samplers.Progress | None = None,
    ) -> ad.AnnData:
        """Draw one profile per row of ``labels``, as ``Generator.sample`` does.

        However short the training and however few the steps, values are finite, and within half the range
        of the training profiles beyond it; a warning says if many had to be clipped.

        Args:
            labels: as in ``Generator.sample``.
            seed: the same seed gives the same profiles.
            batch_size: how many profiles are drawn at a time.
            sampler: which sampler and how many steps; by default that of the settings.
            progress: called with (network evaluations done, in all).

        Returns:
            Profiles whose ``uns["generator"]`` bears the sampler's name (``ddpm``, ``ddim``, ``dpm_solver``,
            ``flow_matching``) and its settings.
        """
        sampler = self._sampler(sampler)
        labels = self.labels_of(labels)
        drawn = self.sample_codes(self.conditions.to_codes(labels), seed, batch_size, sampler, progress)
        return self.as_profiles(
            self.finish(drawn), labels, seed, name=sampler.name, sampler=sampler.model_dump(mode="json")
        )

    @torch.no_grad()
    def trajectory(
        self, labels: pd.DataFrame, seed: int, at: Sequence[float] = (1.0, 0.6, 0.2, 0.0), sampler: Any = None
    ) -> dict[float, ad.AnnData]:
        """The states of the reverse process, from noise to profiles.

        A state is given as genes, as if the scaled genes themselves had been diffused. ``prediction: residual``
        diffuses deviations from the class means, so these are added, multiplied by the state's signal. Pure noise then
        does not depend on the class.

        Args:
            labels: a sample table with a column per condition; its profiles are drawn in one batch.
            seed: of the noise; the state at 0 is what ``sample`` draws.
            at: shares of the path from data (0) to noise (1); the nearest time that the sampler visits is taken.
            sampler: as in ``sample``.

        Returns:
            For every share n profiles in the unit of training, with time and signal in ``uns["generator"]``.
        """
        sampler = self._sampler(sampler)
        chosen = torch.from_numpy(self.conditions.to_codes(labels))
        generator = torch.Generator().manual_seed(seed)
        visited: dict[float, tuple[float, float, Tensor]] = {}
        with self._on(torch.device("cpu")) as denoiser:

            def visit(time: float, signal: float, x_t: Tensor) -> None:
                for share in at:
                    if share not in visited or abs(time - share) < abs(visited[share][0] - share):
                        visited[share] = time, signal, x_t.clone()  # which the sampler goes on with

            network = denoiser.guided(sampler.guidance)
            estimate = self.estimator(sampler, *classes_of(chosen.numpy()), network)

            def estimate_x0(x_t: Tensor, times: Tensor) -> Tensor:
                level = denoiser.path.at(times)
                visit(float(level.time[0]), float(level.signal[0]), x_t)
                return estimate(x_t, level)[1]

            noise = samplers.gaussian_like(denoiser.scaler.centre, generator, (len(chosen), denoiser.width))
            x = self.reverse_process(sampler, estimate_x0, noise, generator, lambda done, of: None)
            visit(0.0, 1.0, x)
            states = {}
            for share, (time, signal, x_t) in sorted(visited.items(), reverse=True):
                filling = torch.Generator().set_state(generator.get_state())
                if share and denoiser.preconditioner is not None:
                    outside = samplers.gaussian_like(x_t, filling, (len(x_t), len(self.genes)))
                    centred = denoiser.preconditioner.from_coordinates(
                        x_t, chosen, outside
                    ) - denoiser.preconditioner.mean(chosen)
                    x_t = centred + signal * denoiser.preconditioner.mean(chosen)
                shown = denoiser.scaler.inverse(x_t) if share else denoiser.from_coordinates(x_t, chosen, filling)[0]
                details = {"time": time, "signal": signal, "sampler": sampler.model_dump(mode="json")}
                values = shown.numpy() if share else self.finish(shown.numpy())
                states[share] = self.as_profiles(values, labels, seed, name=sampler.name, **details)
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
        depend on the others. With ``prediction: residual`` training profiles get their coordinates in the way of
        held-out donors, since an attacker does not know which profiles are which.

        Args:
            profiles: (n, n_genes), in the unit and with the genes of training, ``obs`` with every condition.
            seed: of the noise.
            times: shares of the path from data to noise, within (0, 1].
            noises: draws of noise per time, over which the loss is averaged.
            relative: less the loss of a network whose output is zero (for ``residual``, of the Gaussian alone), which
                measures how hard a profile is (Watson et al. 2022, arXiv:2111.08440).
            batch_size: how many profiles are computed at a time; it bounds memory.

        Raises:
            ValueError: if a time lies outside (0, 1], genes differ, or a label is unknown.
        """
        if not times or not 0 < min(times) <= max(times) <= 1:
            raise ValueError(f"times are shares of the path to noise, above 0 and at most 1; found {list(times)}.")
        require_same_genes(profiles, self.genes.index, self.name)
        x, codes = torch.from_numpy(dense(profiles)), torch.from_numpy(self.conditions.to_codes(profiles.obs))
        found = torch.zeros(len(x), len(times))
        device = resolve_device(self._sampler().device)
        with self._on(device) as denoiser:
            positions = denoiser.path.along(torch.tensor(times, device=device))
            for rows in torch.arange(len(x)).split(batch_size):
                chosen = codes[rows].to(device)
                u = denoiser.to_coordinates(x[rows].to(device), chosen)
                generator = torch.Generator().manual_seed(seed)
                for column, position in enumerate(positions):
                    level = denoiser.path.at(position.expand(len(rows)))
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
    def noise_path(cls, options: DiffusionOptions) -> NoiseSchedule:
        return NoiseSchedule(options.schedule, options.times)

    @property
    def _alpha_bar(self) -> Tensor:
        assert isinstance(self.denoiser.path, NoiseSchedule)
        return self.denoiser.path.alpha_bar

    def _times(self, sampler: SamplerOptions) -> list[int]:
        return schedules.sampling_times(self._alpha_bar, sampler.steps, sampler.spacing)

    def evaluations(self, sampler: SamplerOptions) -> int:
        return len(self._times(sampler)) - 1

    def sampler_for_map(self) -> SamplerOptions:
        steps = min(MAP_EVALUATIONS, len(self._alpha_bar) - 1)
        return self._sampler().model_copy(update={"name": "ddim", "steps": steps})

    def reverse_process(
        self,
        sampler: SamplerOptions,
        estimate_x0: EstimateX0,
        x: Tensor,
        generator: torch.Generator,
        progress: samplers.Progress,
    ) -> Tensor:
        return samplers.draw(
            lambda x_t, t: estimate_x0(x_t, torch.full((1,), t, device=x_t.device)),
            x,
            self._alpha_bar,
            self._times(sampler),
            sampler,
            generator,
            progress,
            self.exact_variance(sampler),
        )


class FlowMatching(DenoisingGenerator):
    """Flow matching on the network of diffusion: straight paths, sampled by Euler or midpoint steps.

    Lipman et al. (2023), arXiv:2210.02747; Liu et al. (2023), arXiv:2209.03003.
    """

    name: ClassVar[str] = "flow_matching"
    options: ClassVar[type[DenoiserOptions]] = FlowMatchingOptions

    @classmethod
    def noise_path(cls, options: FlowMatchingOptions) -> StraightLine:
        return StraightLine(options.times)

    def evaluations(self, sampler: LineSamplerOptions) -> int:
        return sampler.intervals * (2 if sampler.method == "midpoint" else 1)

    def sampler_for_map(self) -> LineSamplerOptions:
        return self._sampler().model_copy(update={"method": "midpoint", "intervals": MAP_EVALUATIONS // 2})

    def reverse_process(
        self,
        sampler: LineSamplerOptions,
        estimate_x0: EstimateX0,
        x: Tensor,
        generator: torch.Generator,
        progress: samplers.Progress,
    ) -> Tensor:
        return samplers.along_line(
            lambda x_t, time: estimate_x0(x_t, torch.full((1,), time, device=x_t.device)),
            x,
            sampler.intervals,
            sampler.method,
            self.exact_variance(sampler),
            progress,
        )
