"""The one place that trains: Lightning's Trainer, checkpoints, early stopping, weight averaging and progress bar.

Importing this module imports Lightning, which costs seconds; models import it only in ``fit``.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import os
import pickle
import signal
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import lightning as L
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import EarlyStopping, TQDMProgressBar, WeightAveraging
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, nn

from transcriptome_diffusion import checkpoints
from transcriptome_diffusion.artefacts import replaced_when_whole
from transcriptome_diffusion.checkpoints import Checkpoints, TrainingDivergedError
from transcriptome_diffusion.data_parallel import ALONE, RANK_STEP, Group, launch
from transcriptome_diffusion.devices import autocasts, multiplies_bfloat16, resolve_device, seeded, torch_threads
from transcriptome_diffusion.gradients import Batch, GradientGraphs, Terms, gradients
from transcriptome_diffusion.options import TrainingOptions
from transcriptome_diffusion.training_cost import announce

logger = logging.getLogger(__name__)

#: the logged loss that decides which weights are kept and when patience is at an end
MONITORED = "validation_loss"
#: networks with fewer parameters gain neither from a second thread on a CPU nor from bfloat16
SMALL_NETWORK = 1_000_000
#: products of float32 matrices whose values a GPU rounds to 10 bits as it reads them
TENSOR_FLOAT = "tensorfloat32"
#: parameters and steps from which it is worth half a minute to compile a network for a GPU
LARGE_NETWORK, LONG_TRAINING = 10_000_000, 10_000


class Trainable(Protocol):
    """What a model offers to be trained by ``fit``; it is an ``nn.Module`` as well.

    A loss is a scalar, or named scalars of which ``loss`` is the one to lower; the others go into the curve. A model
    that has ``to_compile`` names networks in it, of which no gradient's gradient is taken.
    """

    def training_loss(self, batch: Batch, generator: torch.Generator) -> Tensor | Terms:
        """Loss of a batch; all randomness but dropout comes from ``generator`` (on the batch's device)."""

    def validation_loss(self, batch: Batch) -> Tensor | Terms:
        """Loss of held-out rows, always with the same random numbers, so that two calls can be compared."""


class Adversarial(Trainable, Protocol):
    """A model that trains against a critic; ``training_loss`` is that of everything but the critic."""

    critic: nn.Module
    critic_steps: int
    critic_learning_rate: float

    def critic_loss(self, batch: Batch, generator: torch.Generator) -> Tensor | Terms:
        """Loss of the critic, which takes ``critic_steps`` steps, each on its own batch, for one of the model."""

    def trouble(self, means: dict[str, float]) -> str | None:
        """What is wrong, if the means of the terms since the last validation are those of a broken critic."""


def is_adversarial(model: Any) -> bool:
    """Whether the model is ``Adversarial``; ``isinstance`` does not see submodules from Python 3.12 on."""
    return hasattr(model, "critic_loss")


def named(loss: Tensor | Terms) -> Terms:
    """The terms of a loss that may be a single scalar."""
    return loss if isinstance(loss, dict) else {"loss": loss}


class MemoryBatches:
    """Endless shuffled batches of tensors that already lie on the device.

    The rest of an epoch is dropped, or with ``partial`` kept as a smaller batch of two rows or more (batch norm takes
    no single one).

    Args:
        group: processes that hand out a part of every batch each; the rest of a batch that they cannot share equally is
            dropped.

    Attributes:
        start: how many batches are left out at the beginning, by a training that goes on.
    """

    start = 0

    def __init__(
        self, tensors: Sequence[Tensor], batch_size: int, seed: int, partial: bool = False, group: Group = ALONE
    ) -> None:
        self.tensors, self.group = tuple(tensors), group
        self.rows = len(self.tensors[0])
        self.batch_size = min(batch_size, self.rows) // group.size * group.size
        self.smallest = 2 * group.size if partial else self.batch_size
        self.generator = torch.Generator().manual_seed(seed)

    @property
    def per_epoch(self) -> int:
        """Batches in one pass over the rows."""
        whole, rest = divmod(self.rows, self.batch_size)
        return whole + (rest >= self.smallest)

    def __iter__(self) -> Iterator[Batch]:
        epochs, batch = divmod(self.start, self.per_epoch)
        for _ in range(epochs):
            torch.randperm(self.rows, generator=self.generator)
        first = batch * self.batch_size
        while True:
            order = torch.randperm(self.rows, generator=self.generator).to(self.tensors[0].device)
            for start in range(first, self.rows - self.smallest + 1, self.batch_size):
                chosen = order[start : start + self.batch_size]
                if self.group.size > 1:
                    share = len(chosen) // self.group.size
                    chosen = chosen[self.group.rank * share :][:share]
                yield tuple(tensor[chosen] for tensor in self.tensors)
            first = 0


class WholeBatch:
    """All rows as one batch; a class, because Lightning would take a list for several loaders."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = tuple(tensors)

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Batch]:
        yield self.tensors


class MovingAverage(WeightAveraging):
    """Exponential moving average of what training changes; the averaged weights are validated and kept.

    The decay rises as (1 + step) / (10 + step) up to ``decay``, so that the first weights are soon forgotten; without
    ``warmup`` it is ``decay`` from the first step. The
    statistics of batch norm are averaged like weights. All other buffers are constants (a scaler, a preconditioner):
    averaging them too, as ``WeightAveraging`` does by itself, costs a tenth of a training step.
    """

    def __init__(self, decay: float, warmup: bool = True) -> None:
        super().__init__()
        self.decay, self.warmup = decay, warmup

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        assert self._average_model is not None
        self.weights = changing(self._average_model.module)
        self.average, self.live = list(self.weights.values()), list(changing(pl_module).values())

    @torch.no_grad()
    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if step > self._latest_update_step:  # a step of the critic alone moves no weights
            self._latest_update_step = step
            decay = min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay
            torch._foreach_lerp_(self.average, self.live, 1 - decay)

    @torch.no_grad()
    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        before = [tensor.clone() for tensor in self.live]
        torch._foreach_copy_(self.live, self.average)
        torch._foreach_copy_(self.average, before)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.on_validation_epoch_start(trainer, pl_module)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["average"] = self.weights

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        for name, tensor in self.weights.items():
            tensor.copy_(checkpoint["average"][name])


def changing(module: nn.Module) -> dict[str, Tensor]:
    """What training changes, by its name in the ``state_dict``: learnt parameters and batch norm's statistics."""
    return {name: p.detach() for name, p in module.named_parameters() if p.requires_grad} | batch_statistics(module)


def batch_statistics(module: nn.Module) -> dict[str, Tensor]:
    """The means and variances that batch norm keeps, by their names in the ``state_dict``."""
    found: dict[str, Tensor] = {}
    for prefix, layer in module.named_modules():
        if getattr(layer, "track_running_stats", False):
            statistics = layer.named_buffers(prefix, recurse=False)
            found.update((name, buffer) for name, buffer in statistics if buffer.is_floating_point())
    return found


class Record(L.Callback):
    """Keeps the curve and good weights, and logs a line at every tenth of the way where no progress bar is shown.

    Attributes:
        curve: one entry per validation: step, epoch (passes over the training rows), train_loss (mean since
            the last one), validation_loss, the means of further terms of the training loss under their own
            names, those of the validation loss with ``validation_`` before, learning_rate, seconds.
        kept: the averaged weights of the best validation or, with ``keep: last``, of the last one; by name.
        kept_step: the step that they are of.
    """

    def __init__(
        self, average: MovingAverage, keep: str, max_steps: int, steps_per_epoch: float, title: str, log_lines: bool
    ) -> None:
        self.average, self.keep = average, keep
        self.max_steps, self.steps_per_epoch, self.title, self.log_lines = max_steps, steps_per_epoch, title, log_lines
        self.curve: list[dict[str, float]] = []
        self.tenths, self.kept_step, self.seconds_before = 0, 0, 0.0
        self.kept: dict[str, Tensor] = {}

    @property
    def best(self) -> dict[str, float]:
        """The entry with the lowest validation loss, the first of equal ones."""
        return min(self.curve, key=lambda entry: entry["validation_loss"])

    @property
    def seconds(self) -> float:
        """Since the start of training, without the time between two processes."""
        return self.seconds_before + time.perf_counter() - self.started

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.started = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("curve", "tenths", "kept", "kept_step", "seconds")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.curve, self.tenths, self.kept, self.kept_step, self.seconds_before = state_dict.values()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, FitModule)
        train, validation = pl_module.training_means, pl_module.validation_means
        step, seconds = trainer.global_step, self.seconds
        self.curve.append(
            {
                "step": step,
                "epoch": round(step / self.steps_per_epoch, 3),
                "train_loss": train["loss"],
                "validation_loss": validation["loss"],
                **{name: value for name, value in train.items() if name != "loss"},
                **{f"validation_{name}": value for name, value in validation.items() if name != "loss"},
                "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
                "seconds": round(seconds, 3),
            }
        )
        # with `keep: last` they are needed only if a later validation finds a breakdown
        if self.keep == "last" or self.best is self.curve[-1]:
            self.kept_step = step
            self.kept = {name: tensor.clone() for name, tensor in self.average.weights.items()}
        if self.log_lines and step * 10 // self.max_steps > self.tenths:
            self.tenths = step * 10 // self.max_steps
            logger.info(
                "%s: step %d of %d, loss %.4f, validation %.4f, %.0f s left",
                self.title,
                step,
                self.max_steps,
                train["loss"],
                validation["loss"],
                seconds / step * (self.max_steps - step),
            )


class ProgressBar(TQDMProgressBar):
    """Lightning's bar over all batches of a training, with its title; none for the single batch of a validation."""

    def __init__(self, title: str, batches: int) -> None:
        super().__init__(refresh_rate=10)
        self.title, self.batches = title, batches

    @property
    def train_description(self) -> str:
        return self.title

    def init_validation_tqdm(self) -> Tqdm:
        return Tqdm(disable=True)

    def on_train_epoch_start(self, *_: Any) -> None:
        # there is one endless epoch, of which Lightning knows no length
        self.train_progress_bar.reset(self.batches)


class FitModule(L.LightningModule):
    """Any ``Trainable`` under an optimizer with a learning-rate schedule and clipped gradients.

    The critic of an ``Adversarial`` model steps on every batch, the rest on every ``critic_steps``-th one; with
    ``critic_batches: same`` the critic makes its ``critic_steps`` and the rest one on every batch. Steps, their number,
    schedules and validations count those of the model, not of the critic. Optimisation is Lightning's manual one, for
    both kinds: its automatic one allows no second optimizer, and takes longer per step.

    Attributes:
        training_means: the mean of every term of the training loss since the validation before the last.
        validation_means: the terms of the last validation.
    """

    def __init__(
        self, model: Any, options: TrainingOptions, seed: int, device: torch.device, group: Group = ALONE
    ) -> None:
        super().__init__()
        self.group = group
        self.automatic_optimization, self.strict_loading = False, False  # a checkpoint has no constants
        self.model, self.options = model, options
        self.adversarial = is_adversarial(model)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.collected: defaultdict[str, list[Tensor]] = defaultdict(list)
        self.training_means: dict[str, float] = {}
        self.validation_means: dict[str, float] = {}
        self.restored: list[Tensor] = []

    def training_step(self, batch: Batch, index: int) -> None:
        optimizers: Any = self.optimizers()
        optimizer = optimizers[0] if self.adversarial else optimizers
        if self.adversarial:
            same = self.options.critic_batches == "same"
            for _ in range(self.model.critic_steps if same else 1):
                self.critic_step(batch)
            if not same and (index + 1) % self.model.critic_steps:
                return
        terms = self.model_gradients(batch)
        optimizer.step()  # Lightning calls on_before_optimizer_step
        self.collect(terms)
        schedules: Any = self.lr_schedulers()
        for rate in schedules if self.adversarial else [schedules]:
            rate.step()

    def critic_step(self, batch: Batch) -> None:
        # Lightning counts the steps of its own optimizers, so the critic's is a plain one
        optimizer = self.trainer.optimizers[1]
        terms = self.critic_gradients(batch)
        self.on_before_optimizer_step(optimizer)
        optimizer.step()
        self.collect({"critic_loss" if name == "loss" else name: value for name, value in terms.items()})

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.group.size > 1:
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            self.group.average([*gradients, *batch_statistics(self).values()])
        # Lightning's own clipping refuses fused optimizers under mixed precision
        if self.options.gradient_clip is not None:
            learnt = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(learnt, self.options.gradient_clip)

    def collect(self, terms: Terms) -> None:
        for name, value in terms.items():
            self.collected[name].append(value)

    def validation_step(self, batch: Batch, index: int) -> None:
        self.validation_means = {name: float(v) for name, v in named(self.model.validation_loss(batch)).items()}

    def on_validation_epoch_end(self) -> None:
        # the only place where losses leave the device: asking at every step would make it wait
        self.training_means = {name: float(torch.stack(values).mean()) for name, values in self.collected.items()}
        self.collected.clear()
        self.share_means()
        if (found := self.diagnose()) is not None:
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            raise TrainingDivergedError(
                f"{found} at step {self.global_step} with learning rate {rate:.2g}. Lower `training.learning_rate`, "
                "set `training.gradient_clip`, or use `training.precision: float32`."
            )
        losses = {"train_loss": self.training_means["loss"], MONITORED: self.validation_means["loss"]}
        self.log_dict(losses, prog_bar=True, batch_size=1)

    def share_means(self) -> None:
        """Let processes that train together see the same losses, and so decide the same."""
        if self.group.size > 1:
            for means in (self.training_means, self.validation_means):
                values = torch.tensor(list(means.values()), dtype=torch.float64)
                self.group.average([values])
                means.update(zip(means, values.tolist(), strict=True))

    def diagnose(self) -> str | None:
        """What is wrong with the means of the losses, if anything is."""
        train, validation = self.training_means, self.validation_means
        if not all(math.isfinite(value) for value in (*train.values(), *validation.values())):
            return f"the loss is {train['loss']} (validation {validation['loss']})"
        return self.model.trouble(train) if self.adversarial else None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What Lightning does not know: losses since the last validation and the states of random numbers.

        Constants stay out of it: with a preconditioner of all genes, writing them would cost more than training.
        """
        checkpoint["state_dict"] = changing(self)
        collected = {name: torch.stack(values) for name, values in self.collected.items()}
        own = {"collected": collected, "random": [get() for get, _ in self.random_states]}
        checkpoint["processes"] = self.group.gather(own)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        own = checkpoint["processes"][self.group.rank]
        for name, values in own["collected"].items():
            self.collected[name] = list(values.to(self.device).unbind())
        self.restored = own["random"]

    def on_train_start(self) -> None:
        if self.group.size > 1:  # Lightning's own handler would end one process between other steps than the others

            def ask(*_: Any) -> None:
                self.group.asked_to_end = True

            signal.signal(signal.SIGTERM, ask)
        for (_, put), state in zip(self.random_states, self.restored, strict=bool(self.restored)):
            put(state)
        learnt = [[p for group in o.param_groups for p in group["params"]] for o in self.trainer.optimizers]
        self.model_gradients = self.gradients_of(self.model.training_loss, learnt[0])
        if self.adversarial:
            self.critic_gradients = self.gradients_of(self.model.critic_loss, learnt[1])

    def gradients_of(
        self, loss: Callable[[Batch, torch.Generator], Tensor | Terms], learnt: Sequence[nn.Parameter]
    ) -> Callable[[Batch], Terms]:
        """What computes the terms of a loss and the gradients of these parameters."""

        def terms(batch: Batch) -> Terms:
            return named(loss(batch, self.generator))

        if self.generator.device.type == "cuda":
            return GradientGraphs(terms, learnt, self.generator)
        return partial(gradients, terms, learnt)

    @property
    def random_states(self) -> list[tuple[Callable[[], Tensor], Callable[[Tensor], Any]]]:
        """How the states of random numbers are read and set: those of the losses, of the CPU, and of the device."""
        states = [(self.generator.get_state, self.generator.set_state), (torch.get_rng_state, torch.set_rng_state)]
        if self.device.type != "cpu":
            device = getattr(torch, self.device.type)
            states.append((device.get_rng_state, device.set_rng_state))
        return states

    def configure_optimizers(self) -> Any:
        critic = set(self.model.critic.parameters()) if self.adversarial else set()
        optimizers = [build_optimizer((p for p in self.parameters() if p not in critic), self.options)]
        schedules = [schedule(optimizers[0], self.options)]
        if self.adversarial:
            # no warm-up: while the model's rate is still low, the critic learns what there is to tell
            changes = {"learning_rate": self.model.critic_learning_rate, "warmup": 0.0}
            options = self.options.model_copy(update=changes)
            optimizers.append(build_optimizer(self.model.critic.parameters(), options))
            schedules.append(schedule(optimizers[1], options))
        return optimizers, schedules


def build_optimizer(parameters: Iterable[nn.Parameter], options: TrainingOptions) -> torch.optim.Optimizer:
    """The optimizer ``options`` names, for those parameters that are learnt."""
    learnt = [p for p in parameters if p.requires_grad]
    rate, decay = options.learning_rate, options.weight_decay
    if options.optimizer == "rmsprop":
        return torch.optim.RMSprop(learnt, lr=rate, weight_decay=decay)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[options.optimizer]
    return kind(learnt, lr=rate, betas=options.betas, weight_decay=decay, fused=True)


def schedule(optimizer: torch.optim.Optimizer, options: TrainingOptions) -> torch.optim.lr_scheduler.LRScheduler:
    """The rate over ``max_steps``: constant or cosine to zero after a linear warm-up, or OneCycle."""
    steps = options.max_steps
    if options.learning_rate_schedule == "one_cycle":  # Smith and Topin (2018), arXiv:1708.07120
        peak = 0.3 * steps if options.peak_step is None else min(options.peak_step, steps - 1)
        if peak == 1:  # at the first step, where PyTorch divides by a rise of no step
            peak = 0
        # as Adam's rate rises to its peak and falls, its first beta falls to 0.85 and rises, by PyTorch's defaults
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, options.learning_rate, total_steps=steps, pct_start=peak / steps
        )
    warm = max(round(options.warmup * steps), 1)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        if options.learning_rate_schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * min((step - warm) / max(steps - warm, 1), 1.0)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hold back Lightning's banners and hints; its errors still come through."""
    names = ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    loggers = [logging.getLogger(name) for name in names]
    levels = [log.level for log in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        for log in loggers:
            log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for log, level in zip(loggers, levels, strict=True):
                log.setLevel(level)


@contextmanager
def compute_settings(seed: int, device: torch.device, threads: int | None, precision: str) -> Iterator[None]:
    """Seeded random numbers, precision of float32 products and a number of threads, all put back afterwards."""
    cuda = [device.index or 0] if device.type == "cuda" else []
    with seeded(seed, cuda), torch_threads(threads):
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest" if precision == "float32" else "medium")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


def settled(options: TrainingOptions, parameters: int, adversarial: bool, device: torch.device) -> TrainingOptions:
    """The options, with ``threads`` null and ``precision`` auto settled where bfloat16 gains nothing.

    On a CPU a small network is trained in float32 on one thread: a second one doubles the time of the processor for the
    same time on the clock, and rounding to bfloat16 takes up to a tenth longer than what it saves. On a GPU small
    networks and those with a critic, whose batches are small, would spend more time on casts than on products.
    """
    if device.type == "cuda" and options.precision == "auto" and (adversarial or parameters < SMALL_NETWORK):
        return options.model_copy(update={"precision": TENSOR_FLOAT})
    if device.type != "cpu" or parameters >= SMALL_NETWORK:
        return options
    precision = "float32" if options.precision == "auto" else options.precision
    return options.model_copy(update={"threads": options.threads or 1, "precision": precision})


@contextmanager
def compiled(model: Any, parameters: int, steps: int, device: torch.device) -> Iterator[None]:
    """On a GPU, and where that saves time, the networks of ``model`` as kernels that torch writes for them.

    What lies between the products of a network (norms, dropout, joined labels) takes as long as they do; compiled, half
    of that. Where torch finds no compiler it says so, and training goes on without.
    """
    networks = getattr(model, "to_compile", ())
    if device.type != "cuda" or parameters < LARGE_NETWORK or steps < LONG_TRAINING or not networks:
        yield
        return
    import torch._dynamo

    with torch._dynamo.config.patch(suppress_errors=True):
        for network in networks:
            network.compile(dynamic=False)
        try:
            yield
        finally:
            for network in networks:
                network._compiled_call_impl = None


class CheckpointFile(CheckpointIO):
    """Reads and writes a checkpoint: whole or not at all, and nothing but tensors and plain values are read.

    Args:
        writes: false in all but one of the processes that train together.
    """

    def __init__(self, writes: bool = True) -> None:
        self.writes = writes

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if not self.writes:
            return
        with replaced_when_whole(Path(path)) as staging, staging.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())  # else a loss of power may leave an empty file under the final name

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return torch.load(path, map_location="cpu", weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


class Checkpoint(L.Callback):
    """Writes a checkpoint once in ``checkpoints.INTERVAL`` seconds, and when the process is asked to end (SIGTERM).

    Less often, where writing takes more than ``checkpoints.SHARE`` of the time.

    It lies in the folder of ``checkpoints.checkpoints_in`` and holds all that the rest of a training depends on, so
    that on a CPU an interrupted training ends with the same weights, bit for bit.

    Args:
        about: what decides the training; a checkpoint of another one is not used.
        group: processes that train together; the first one writes the states of all.
    """

    def __init__(
        self, folder: Path, title: str, about: Callable[[], dict[str, Any]], batches: MemoryBatches, group: Group
    ) -> None:
        self.group = group
        self.path = folder / f"{''.join(c if c.isalnum() else '_' for c in title)}{checkpoints.SUFFIX}"
        self.title, self.make_about, self.batches = title, about, batches
        self.due = time.monotonic() + checkpoints.INTERVAL

    @cached_property
    def about(self) -> dict[str, Any]:
        # only where it is needed, since it reads all profiles; as it comes back from a file
        return json.loads(json.dumps(self.make_about()))

    def find(self) -> str | None:
        """The path of a checkpoint of this very training, if there is one."""
        if not self.path.exists():
            return None
        try:
            found = CheckpointFile().load_checkpoint(self.path)
            before, step, batches = found["about"], found["global_step"], found["batches"]
        except (OSError, EOFError, KeyError, RuntimeError, pickle.UnpicklingError) as error:
            logger.warning("%s: the checkpoint %s cannot be read (%s); starting afresh", self.title, self.path, error)
            return None
        if changed := checkpoints.differences(before, self.about):
            what = "; ".join(changed)
            logger.warning(
                "%s: the checkpoint %s is of other settings (%s); starting afresh", self.title, self.path, what
            )
            return None
        logger.info("%s: going on from step %d, whose checkpoint is %s", self.title, step, self.path)
        self.batches.start = batches
        return str(self.path)

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        # here and not at the end of a batch, after which there may be a validation
        due, ending = self.group.any(time.monotonic() >= self.due, self.group.asked_to_end)
        if due or ending:
            self.write(trainer)
        if ending:
            raise SIGTERMException

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        # Lightning raises it between two steps
        if self.group.size == 1 and isinstance(exception, SIGTERMException) and trainer.global_step < trainer.max_steps:
            self.write(trainer)

    def write(self, trainer: L.Trainer) -> None:
        started = time.monotonic()
        try:
            trainer.save_checkpoint(self.path)
        except OSError as error:
            logger.warning("%s: no checkpoint was written, training goes on: %s", self.title, error)
        now = time.monotonic()
        self.due = now + max(checkpoints.INTERVAL, (now - started) / checkpoints.SHARE)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for count in (progress["total"], progress["current"]):  # the batch that is about to start does not count
            count["ready"] = count["completed"]
        checkpoint |= {"about": self.about, "batches": progress["total"]["completed"]}


def describe(
    place: Checkpoints, options: TrainingOptions, seed: int, model: nn.Module, tensors: Sequence[Tensor]
) -> dict[str, Any]:
    """What decides a training."""
    return {
        "code": checkpoints.code_version(),
        **place.about,
        "training": {**options.model_dump(mode="json"), "seed": seed},
        "network": repr(model),
        "profiles": digest(tensors),
    }


def digest(tensors: Iterable[Tensor]) -> str:
    """Of the values of tensors."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().contiguous().cpu().numpy().data)
    return found.hexdigest()[:16]


def build_trainer(
    options: TrainingOptions,
    device: torch.device,
    batches_per_step: int,
    callbacks: list[L.Callback],
    watched: bool,
    writes: bool,
) -> L.Trainer:
    """Lightning's trainer on one device; ``watched``: with a progress bar, ``writes``: checkpoints."""
    return L.Trainer(
        accelerator={"cuda": "gpu"}.get(device.type, device.type),
        devices=1 if device.index is None else [device.index],
        precision="bf16-mixed" if autocasts(options.precision, device) else "32-true",
        max_steps=options.max_steps,
        # Lightning counts batches between validations
        val_check_interval=min(options.validate_every, options.max_steps) * batches_per_step,
        check_val_every_n_epoch=None,
        callbacks=callbacks,
        plugins=[LightningEnvironment(), CheckpointFile(writes)],
        logger=False,
        enable_checkpointing=False,  # Lightning's own, which would lie in the current folder
        enable_progress_bar=watched,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def fit(
    model: Any,
    train: Sequence[Tensor],
    validation: Sequence[Tensor],
    options: TrainingOptions,
    seed: int,
    title: str = "training",
) -> dict[str, Any]:
    """Train ``model`` (a ``Trainable`` ``nn.Module``) in place; it ends on the CPU, with averaged weights.

    Args:
        model: offers ``training_loss`` and ``validation_loss``; an ``Adversarial`` one trains against its critic.
        train: tensors with one row per sample, handed out in shuffled batches.
        validation: the same for held-out donors, as one batch.
        seed: of batches, noise and dropout; the global random state is left as it was.
        title: stands before the progress and in errors.

    Returns:
        The record, plain JSON: ``curve`` (see ``Record``), ``best_step``, ``best_validation_loss``,
        ``steps``, ``stopped`` (why before the last step: a breakdown, after which the last good weights are
        kept, or no gain within ``patience``; else None), ``seconds``, ``device``, ``precision`` (of products),
        ``parameters``.

    Raises:
        TrainingDivergedError: if training breaks down before its first healthy validation.
        ValueError: if there are fewer devices than ``options.devices``.
    """
    place = checkpoints.current()
    if options.devices == 1:
        return _fit(ALONE, model, train, validation, options, seed, title, place)
    if (kind := resolve_device(options.device).type) != "cpu":
        there = torch.cuda.device_count() if kind == "cuda" else 1
        if there < options.devices:
            raise ValueError(f"`training.devices` is {options.devices}, and there are {there} of kind {kind!r} here.")
    threads = options.threads or max(torch.get_num_threads() // options.devices, 1)
    options = options.model_copy(update={"threads": threads})
    tensors = tuple(train), tuple(validation)
    record = launch(_fit_together, options.devices, model, *tensors, options, seed, title, place, what=title)
    model.eval()
    return record


def _fit_together(group: Group, shared: Any, *arguments: Any) -> dict[str, Any]:
    """``_fit`` in one of several processes; the first leaves the weights in the memory that they share."""
    model = copy.deepcopy(shared)
    record = _fit(group, model, *arguments)
    if group.rank == 0:
        shared.load_state_dict(model.state_dict())
    return record


def _fit(
    group: Group,
    model: Any,
    train: Sequence[Tensor],
    validation: Sequence[Tensor],
    options: TrainingOptions,
    seed: int,
    title: str,
    place: Checkpoints | None,
) -> dict[str, Any]:
    """``fit`` in this process, alone or with others."""
    device = resolve_device(options.device)
    if device.type == "cuda" and group.size > 1:
        device = torch.device("cuda", group.rank)
    own_seed = seed + RANK_STEP * group.rank
    parameters = sum(p.numel() for p in model.parameters())
    adversarial = is_adversarial(model)
    options = settled(options, parameters, adversarial, device)
    batches_per_step = model.critic_steps if adversarial and options.critic_batches == "new" else 1
    with ExitStack() as stack:
        stack.enter_context(quiet_lightning())
        stack.enter_context(compute_settings(own_seed, device, options.threads, options.precision))
        model.to(device)
        rows = [t.to(device) for t in train]
        batches = MemoryBatches(rows, options.batch_size, seed + 2, options.partial_batches, group)
        steps_per_epoch = batches.per_epoch / batches_per_step
        if options.max_epochs is not None:
            steps = max(round(options.max_epochs * steps_per_epoch), 1)
            options = options.model_copy(update={"max_steps": steps})
        bfloat16 = multiplies_bfloat16(options.precision, device)
        critic = (sum(p.numel() for p in model.critic.parameters()), model.critic_steps) if adversarial else (0, 0)
        announce(title, parameters, batches.batch_size, options.max_steps, device, bfloat16, *critic)
        stack.enter_context(compiled(model, parameters, options.max_steps, device))
        module = FitModule(model, options, own_seed + 1, device, group)
        watched = sys.stdout.isatty() and group.rank == 0
        average = MovingAverage(options.ema_decay, options.ema_warmup)
        record = Record(average, options.keep, options.max_steps, steps_per_epoch, title, log_lines=not watched)
        callbacks: list[L.Callback] = [average, record]
        checkpoint = None
        if place is not None:
            about = partial(describe, place, options, seed, model, [*train, *validation])
            checkpoint = Checkpoint(place.folder, title, about, batches, group)
            callbacks.append(checkpoint)
        if options.patience is not None:
            callbacks.append(EarlyStopping(MONITORED, patience=options.patience, check_finite=False))
        if watched:
            callbacks.append(ProgressBar(title, options.max_steps * batches_per_step))
        trainer = build_trainer(options, device, batches_per_step, callbacks, watched, writes=group.rank == 0)
        found = stopped = None
        path = checkpoint.find() if checkpoint else None
        try:
            others = WholeBatch([t.to(device) for t in validation])
            trainer.fit(module, batches, others, ckpt_path=path, weights_only=True)
            if options.keep == "last" and not all(bool(t.isfinite().all()) for t in changing(module).values()):
                found = f"the averaged weights are not finite after {trainer.global_step} steps; lower `learning_rate`."
        except TrainingDivergedError as error:
            found = str(error)
        if found and not record.curve:
            if checkpoint:
                checkpoint.path.unlink(missing_ok=True)
            raise TrainingDivergedError(f"{title}: {found} No validation before was healthy: nothing is kept.")
        if found or options.keep == "best":
            module.load_state_dict(record.kept, strict=False)
        seconds = record.seconds
    model.to("cpu").eval()
    if found:
        stopped = f"{title}: {found} The averaged weights of step {record.kept_step} are kept."
        logger.warning("%s", stopped)
    elif trainer.global_step < options.max_steps:
        since = f"no gain on validation donors since step {record.best['step']}"
        stopped = f"{title}: stopped at step {trainer.global_step}, {since}"
        logger.info("%s", stopped)
    return {
        "curve": record.curve,
        "best_step": record.best["step"],
        "best_validation_loss": record.best["validation_loss"],
        "steps": trainer.global_step,
        "stopped": stopped,
        "seconds": round(seconds, 3),
        "device": device.type,
        "precision": "bfloat16" if bfloat16 else options.precision.replace("auto", "float32"),
        "parameters": parameters,
    }
