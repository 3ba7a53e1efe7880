"""The one place that trains: Lightning's Trainer with our device, precision, averaging, progress and record.

Importing this module imports Lightning, which costs seconds; models import it only in ``fit``.
"""

from __future__ import annotations

import logging
import math
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, runtime_checkable

import lightning as L
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import Tensor, nn
from tqdm.auto import tqdm

from transcriptome_diffusion.devices import gains_from_bfloat16, resolve_device, torch_threads
from transcriptome_diffusion.options import TrainingOptions

logger = logging.getLogger(__name__)

Batch = tuple[Tensor, ...]
Terms = dict[str, Tensor]


class TrainingDivergedError(RuntimeError):
    """Training broke down before its first healthy validation; there is nothing worth keeping."""


class Trainable(Protocol):
    """What a model offers to be trained by ``fit``; it is an ``nn.Module`` as well.

    A loss is a scalar, or named scalars of which ``loss`` is the one to lower; the others go into the curve.
    """

    def training_loss(self, batch: Batch, generator: torch.Generator) -> Tensor | Terms:
        """Loss of a batch; all randomness but dropout comes from ``generator`` (on the batch's device)."""

    def validation_loss(self, batch: Batch) -> Tensor | Terms:
        """Loss of held-out rows, always with the same random numbers, so that two calls can be compared."""


@runtime_checkable
class Adversarial(Trainable, Protocol):
    """A model that trains against a critic; ``training_loss`` is that of everything but the critic."""

    critic: nn.Module
    critic_steps: int
    critic_learning_rate: float

    def critic_loss(self, batch: Batch, generator: torch.Generator) -> Tensor | Terms:
        """Loss of the critic, which takes ``critic_steps`` steps, each on its own batch, for one of the model."""

    def trouble(self, means: dict[str, float]) -> str | None:
        """What is wrong, if the means of the terms since the last validation are those of a broken critic."""


def named(loss: Tensor | Terms) -> Terms:
    """The terms of a loss that may be a single scalar."""
    return loss if isinstance(loss, dict) else {"loss": loss}


class MemoryBatches:
    """Endless shuffled batches of tensors that already lie on the device; the rest of an epoch is dropped."""

    def __init__(self, tensors: Sequence[Tensor], batch_size: int, seed: int) -> None:
        self.tensors = tuple(tensors)
        self.rows = len(self.tensors[0])
        self.batch_size = min(batch_size, self.rows)
        self.generator = torch.Generator().manual_seed(seed)

    @property
    def per_epoch(self) -> int:
        """Batches in one pass over the rows."""
        return self.rows // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        while True:
            order = torch.randperm(self.rows, generator=self.generator).to(self.tensors[0].device)
            for start in range(0, self.rows - self.batch_size + 1, self.batch_size):
                chosen = order[start : start + self.batch_size]
                yield tuple(tensor[chosen] for tensor in self.tensors)


class WholeBatch:
    """All rows as one batch; a class, because Lightning would take a list for several loaders."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = tuple(tensors)

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Batch]:
        yield self.tensors


class MovingAverage(L.Callback):
    """Exponential moving average of every floating tensor of a module, warm at the start; validated and kept.

    The decay rises as (1 + step) / (10 + step) up to ``decay``, so that the first weights are soon forgotten.
    While validation runs, the module holds the averaged weights; ``keep`` says whether those of the best
    validation or of the last step are left in it at the end. When training breaks down it ends, and "last"
    means the last healthy validation.

    Attributes:
        stopped: why training ended before its last step; None if it did not.
        diverged: whether that was a breakdown.
    """

    def __init__(self, module: nn.Module, decay: float, keep: str, patience: int | None) -> None:
        self.module, self.decay, self.keep, self.patience = module, decay, keep, patience
        self.live: list[Tensor] = []
        self.average: list[Tensor] = []
        self.kept: list[Tensor] = []
        self.healthy: list[Tensor] = []
        self.best_loss, self.best_step, self.without_gain, self.steps = math.inf, 0, 0, 0
        self.healthy_step = 0
        self.stopped: str | None = None
        self.diverged = False

    def _swap(self) -> None:
        for live, average in zip(self.live, self.average, strict=True):
            held = live.clone()
            live.copy_(average)
            average.copy_(held)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # batch norm's running statistics are averaged as well: they belong to the weights
        self.live = [t.detach() for t in self.module.state_dict().values() if t.is_floating_point()]
        self.average = [t.clone() for t in self.live]

    @torch.no_grad()
    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.global_step == self.steps:  # an accumulating or manual step that moved no weights
            return
        self.steps = trainer.global_step
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.average, self.live, 1 - decay)

    @torch.no_grad()
    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._swap()

    @torch.no_grad()
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, FitModule)
        self._swap()
        if pl_module.trouble is not None:
            self._give_up(pl_module.trouble)
            trainer.should_stop = True
            return
        self.healthy, self.healthy_step = [t.clone() for t in self.average], trainer.global_step
        if (loss := pl_module.validation_means["loss"]) < self.best_loss:
            self.best_loss, self.best_step, self.without_gain = loss, trainer.global_step, 0
            self.kept = self.healthy if self.keep == "best" else []
            return
        self.without_gain += 1
        if self.patience is not None and self.without_gain >= self.patience:
            self.stopped = f"stopped at step {self.steps}: no gain on validation donors since step {self.best_step}"
            trainer.should_stop = True

    def _give_up(self, found: str) -> None:
        if not self.healthy:
            raise TrainingDivergedError(f"{found} No validation before was healthy: nothing is kept.")
        step = self.best_step if self.keep == "best" else self.healthy_step
        self.stopped, self.diverged = f"{found} The averaged weights of step {step} are kept.", True

    @torch.no_grad()
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        final = self.kept or (self.healthy if self.diverged else self.average)
        if not all(bool(torch.isfinite(t).all()) for t in final):
            self._give_up(f"the averaged weights are not finite after {self.steps} steps; lower `learning_rate`.")
            final = self.healthy
        for live, kept in zip(self.live, final, strict=True):
            live.copy_(kept)


class Progress(L.Callback):
    """Shows losses and the remaining time, and keeps the curve.

    A bar where someone watches a terminal, otherwise a log line at every tenth of the way.

    Attributes:
        curve: one record per validation: step, epoch (passes over the training rows), train_loss (mean since
            the last one), validation_loss, the means of further terms of the training loss under their own
            names, those of the validation loss with ``validation_`` before, learning_rate, seconds.
    """

    def __init__(self, max_steps: int, steps_per_epoch: float, title: str) -> None:
        self.max_steps, self.steps_per_epoch, self.title = max_steps, steps_per_epoch, title
        self.curve: list[dict[str, float]] = []
        self.watched = sys.stderr.isatty()
        self.announced = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.started = time.perf_counter()
        self.bar = tqdm(total=self.max_steps, desc=self.title, unit="step", disable=not self.watched, leave=False)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.bar.update(trainer.global_step - self.bar.n)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, FitModule)
        if pl_module.trouble is not None:
            return
        train, validation = pl_module.training_means, pl_module.validation_means
        step, seconds = trainer.global_step, time.perf_counter() - self.started
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
        self.bar.set_postfix(loss=f"{train['loss']:.4f}", validation=f"{validation['loss']:.4f}")
        if not self.watched and step * 10 // self.max_steps > self.announced:
            self.announced = step * 10 // self.max_steps
            logger.info(
                "%s: step %d of %d, loss %.4f, validation %.4f, %.0f s left",
                self.title,
                step,
                self.max_steps,
                train["loss"],
                validation["loss"],
                seconds / step * (self.max_steps - step),
            )

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.bar.close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self.bar.close()


class FitModule(L.LightningModule):
    """Any ``Trainable`` under one optimizer with a learning-rate schedule and clipped gradients.

    Attributes:
        training_means: the mean of every term of the training loss since the validation before the last.
        validation_means: the terms of the last validation.
        trouble: what the last validation found wrong, with the remedy; None while all is well.
    """

    def __init__(
        self, model: Any, options: TrainingOptions, seed: int, device: torch.device, title: str = "training"
    ) -> None:
        super().__init__()
        self.model, self.options, self.title = model, options, title
        self.generator = torch.Generator(device).manual_seed(seed)
        self.collected: defaultdict[str, list[Tensor]] = defaultdict(list)
        self.training_means: dict[str, float] = {}
        self.validation_means: dict[str, float] = {}
        self.trouble: str | None = None

    def collect(self, terms: Terms) -> None:
        for name, value in terms.items():
            self.collected[name].append(value.detach())

    def training_step(self, batch: Batch, index: int) -> Tensor | None:
        terms = named(self.model.training_loss(batch, self.generator))
        self.collect(terms)
        return terms["loss"]

    def validation_step(self, batch: Batch, index: int) -> None:
        self.validation_means = {name: float(v) for name, v in named(self.model.validation_loss(batch)).items()}

    def on_validation_epoch_end(self) -> None:
        # the only place where losses leave the device: asking at every step would make it wait
        self.training_means = {name: float(torch.stack(values).mean()) for name, values in self.collected.items()}
        self.collected.clear()
        if (found := self.diagnose()) is not None:
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            self.trouble = (
                f"{self.title}: {found} at step {self.global_step} with learning rate {rate:.2g}. Lower "
                "`training.learning_rate`, set `training.gradient_clip`, or use `training.precision: float32`."
            )

    def diagnose(self) -> str | None:
        """What is wrong with the means of the losses, if anything is."""
        train, validation = self.training_means, self.validation_means
        if all(math.isfinite(value) for value in (*train.values(), *validation.values())):
            return None
        return f"the loss is {train['loss']} (validation {validation['loss']})"

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # Lightning's own clipping refuses fused optimizers under mixed precision
        if self.options.gradient_clip is not None:
            moved = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(moved, self.options.gradient_clip)

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self.parameters(), self.options)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule(optimizer, self.options), "interval": "step"},
        }


class AdversarialModule(FitModule):
    """Any ``Adversarial`` model: its critic steps on every batch, the rest on every ``critic_steps``-th one.

    Steps, their number, schedules and validations count those of the model, not of the critic.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.automatic_optimization = False

    def training_step(self, batch: Batch, index: int) -> None:
        # Lightning counts steps of its own optimizers, so the critic's stays a plain one
        optimizer: Any = self.optimizers()
        critic_optimizer: Any = self.optimizers(use_pl_optimizer=False)
        optimizer, critic_optimizer = optimizer[0], critic_optimizer[1]
        terms = named(self.model.critic_loss(batch, self.generator))
        critic_optimizer.zero_grad()
        self.manual_backward(terms["loss"])
        self.on_before_optimizer_step(critic_optimizer)
        critic_optimizer.step()
        self.collect({"critic_loss" if name == "loss" else name: value for name, value in terms.items()})
        if (index + 1) % self.model.critic_steps:
            return
        terms = named(self.model.training_loss(batch, self.generator))
        optimizer.zero_grad()
        self.manual_backward(terms["loss"])
        optimizer.step()
        self.collect(terms)
        schedules: Any = self.lr_schedulers()
        for rate in schedules:
            rate.step()

    def diagnose(self) -> str | None:
        return super().diagnose() or self.model.trouble(self.training_means)

    def configure_optimizers(self) -> Any:
        of_critic = list(self.model.critic.parameters())
        known = {id(p) for p in of_critic}
        # no warm-up: while the model's rate is still low, the critic learns what there is to tell
        changes = {"learning_rate": self.model.critic_learning_rate, "warmup": 0.0}
        critic_options = self.options.model_copy(update=changes)
        optimizer = build_optimizer([p for p in self.parameters() if id(p) not in known], self.options)
        critic_optimizer = build_optimizer(of_critic, critic_options)
        return [optimizer, critic_optimizer], [
            schedule(optimizer, self.options),
            schedule(critic_optimizer, critic_options),
        ]


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
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, total_steps=steps + 1)
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
def compute_settings(seed: int, device: torch.device, threads: int | None) -> Iterator[None]:
    """Seeded random numbers, faster float32 products and a number of threads, all put back afterwards."""
    precision = torch.get_float32_matmul_precision()
    cuda = [device.index or 0] if device.type == "cuda" else []
    with torch_threads(threads), torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        torch.set_float32_matmul_precision("medium")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(precision)


def mixed_precision(options: TrainingOptions, device: torch.device) -> bool:
    """Whether to multiply in bfloat16; weights and losses stay float32 either way."""
    if options.precision == "auto":
        return gains_from_bfloat16(device)
    return options.precision == "bfloat16"


def build_trainer(
    options: TrainingOptions, device: torch.device, callbacks: Sequence[L.Callback], **overrides: Any
) -> L.Trainer:
    """A Trainer that writes nothing to disk: no loggers, checkpoints, folders or banners.

    Call it inside ``quiet_lightning``.
    """
    settings: dict[str, Any] = {
        "accelerator": {"cuda": "gpu"}.get(device.type, device.type),
        "devices": 1,
        "precision": "bf16-mixed" if mixed_precision(options, device) else "32-true",
        "max_steps": options.max_steps,
        "val_check_interval": min(options.validate_every, options.max_steps),
        "check_val_every_n_epoch": None,
        "callbacks": list(callbacks),
        "plugins": [LightningEnvironment()],
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "barebones": False,
    }
    return L.Trainer(**{**settings, **overrides})


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
        The record, plain JSON: ``curve`` (see ``Progress``), ``best_step``, ``best_validation_loss``,
        ``steps``, ``stopped`` (why before the last step: a breakdown, after which the last good weights are
        kept, or no gain within ``patience``; else None), ``seconds``, ``device``, ``precision``,
        ``parameters``.

    Raises:
        TrainingDivergedError: if training breaks down before its first healthy validation.
    """
    device = resolve_device(options.device)
    adversarial = isinstance(model, Adversarial)
    batches_per_step = model.critic_steps if adversarial else 1
    with ExitStack() as stack:
        stack.enter_context(quiet_lightning())
        stack.enter_context(compute_settings(seed, device, options.threads))
        model.to(device)
        batches = MemoryBatches([t.to(device) for t in train], options.batch_size, seed + 2)
        steps_per_epoch = batches.per_epoch / batches_per_step
        if options.max_epochs is not None:
            steps = max(round(options.max_epochs * steps_per_epoch), 1)
            options = options.model_copy(update={"max_steps": steps})
        average = MovingAverage(model, options.ema_decay, options.keep, options.patience)
        progress = Progress(options.max_steps, steps_per_epoch, title)
        module = (AdversarialModule if adversarial else FitModule)(model, options, seed + 1, device, title)
        # Lightning counts batches between validations
        interval = min(options.validate_every, options.max_steps) * batches_per_step
        trainer = build_trainer(options, device, [average, progress], val_check_interval=interval)
        started = time.perf_counter()
        trainer.fit(module, batches, WholeBatch([t.to(device) for t in validation]))
        seconds = time.perf_counter() - started
    model.to("cpu").eval()
    if average.stopped:
        logger.log(logging.WARNING if average.diverged else logging.INFO, "%s", average.stopped)
    return {
        "curve": progress.curve,
        "best_step": average.best_step,
        "best_validation_loss": average.best_loss,
        "steps": average.steps,
        "stopped": average.stopped,
        "seconds": round(seconds, 3),
        "device": device.type,
        "precision": "bfloat16" if mixed_precision(options, device) else "float32",
        "parameters": sum(p.numel() for p in model.parameters()),
    }
