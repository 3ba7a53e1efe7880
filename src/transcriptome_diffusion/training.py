"""The one place that trains: Lightning's Trainer with our device, precision, averaging, progress and record.

Importing this module imports Lightning, which costs seconds; models import it only in ``fit``.
"""

from __future__ import annotations

import logging
import math
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import lightning as L
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import Tensor, nn
from tqdm.auto import tqdm

from transcriptome_diffusion.devices import gains_from_bfloat16, resolve_device, torch_threads
from transcriptome_diffusion.parameters import TrainingOptions

logger = logging.getLogger(__name__)

Batch = tuple[Tensor, ...]


class TrainingDivergedError(RuntimeError):
    """The loss is no longer a number; nothing of such a training is kept."""


class Trainable(Protocol):
    """What a model offers to be trained by ``fit``; it is an ``nn.Module`` as well."""

    def training_loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Loss of a batch; all randomness but dropout comes from ``generator`` (on the batch's device)."""

    def validation_loss(self, batch: Batch) -> Tensor:
        """Loss of held-out rows, always with the same random numbers, so that two calls can be compared."""


class MemoryBatches:
    """Endless shuffled batches of tensors that already lie on the device; the rest of an epoch is dropped."""

    def __init__(self, tensors: Sequence[Tensor], batch_size: int, seed: int) -> None:
        self.tensors = tuple(tensors)
        self.rows = len(self.tensors[0])
        self.batch_size = min(batch_size, self.rows)
        self.generator = torch.Generator().manual_seed(seed)

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
    validation or of the last step are left in it at the end.
    """

    def __init__(self, module: nn.Module, decay: float, keep: str, patience: int | None) -> None:
        self.module, self.decay, self.keep, self.patience = module, decay, keep, patience
        self.live: list[Tensor] = []
        self.average: list[Tensor] = []
        self.kept: list[Tensor] = []
        self.best_loss, self.best_step, self.without_gain, self.steps = math.inf, 0, 0, 0

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
        self._swap()
        loss = float(trainer.callback_metrics["valid_loss"])
        if loss < self.best_loss:
            self.best_loss, self.best_step, self.without_gain = loss, trainer.global_step, 0
            if self.keep == "best":
                self.kept = [t.clone() for t in self.average]
            return
        self.without_gain += 1
        if self.patience is not None and self.without_gain >= self.patience:
            trainer.should_stop = True

    @torch.no_grad()
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        final = self.kept or self.average
        if not all(bool(torch.isfinite(t).all()) for t in final):
            raise TrainingDivergedError(
                f"the averaged weights are not finite after {self.steps} steps; lower `training.learning_rate`."
            )
        for live, kept in zip(self.live, final, strict=True):
            live.copy_(kept)


class Progress(L.Callback):
    """Shows losses and the remaining time, and keeps the curve.

    A bar where someone watches a terminal, otherwise a log line at every tenth of the way.

    Attributes:
        curve: one record per validation: step, train_loss (mean since the last one), validation_loss,
            learning_rate, seconds.
    """

    def __init__(self, max_steps: int, title: str) -> None:
        self.max_steps, self.title = max_steps, title
        self.curve: list[dict[str, float]] = []
        self.watched = sys.stderr.isatty()
        self.losses: list[Tensor] = []
        self.announced = 0
        self.validation_loss = math.nan

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.started = time.perf_counter()
        self.bar = tqdm(total=self.max_steps, desc=self.title, unit="step", disable=not self.watched, leave=False)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(outputs["loss"].detach())
        self.bar.update(1)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # the only place where the loss leaves the device: asking at every step would make it wait
        train_loss = float(torch.stack(self.losses).mean())
        self.losses.clear()
        self.validation_loss = float(trainer.callback_metrics["valid_loss"])
        step, rate = trainer.global_step, trainer.optimizers[0].param_groups[0]["lr"]
        if not (math.isfinite(train_loss) and math.isfinite(self.validation_loss)):
            raise TrainingDivergedError(
                f"{self.title}: the loss is {train_loss} (validation {self.validation_loss}) at step {step} "
                f"with learning rate {rate:.2g}. Lower `training.learning_rate`, set "
                "`training.gradient_clip`, or use `training.precision: float32`."
            )
        seconds = time.perf_counter() - self.started
        self.curve.append(
            {
                "step": step,
                "train_loss": train_loss,
                "validation_loss": self.validation_loss,
                "learning_rate": float(rate),
                "seconds": round(seconds, 3),
            }
        )
        self.bar.set_postfix(loss=f"{train_loss:.4f}", validation=f"{self.validation_loss:.4f}")
        if not self.watched and step * 10 // self.max_steps > self.announced:
            self.announced = step * 10 // self.max_steps
            logger.info(
                "%s: step %d of %d, loss %.4f, validation %.4f, %.0f s left",
                self.title,
                step,
                self.max_steps,
                train_loss,
                self.validation_loss,
                seconds / step * (self.max_steps - step),
            )

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.bar.close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self.bar.close()


class FitModule(L.LightningModule):
    """Any ``Trainable`` under AdamW with a learning-rate schedule and clipped gradients."""

    def __init__(self, model: Any, options: TrainingOptions, seed: int, device: torch.device) -> None:
        super().__init__()
        self.model, self.options = model, options
        self.generator = torch.Generator(device).manual_seed(seed)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        return self.model.training_loss(batch, self.generator)

    def validation_step(self, batch: Batch, index: int) -> None:
        self.log("valid_loss", self.model.validation_loss(batch), batch_size=len(batch[0]))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # Lightning's own clipping refuses fused optimizers under mixed precision
        if self.options.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.parameters(), self.options.gradient_clip)

    def configure_optimizers(self) -> Any:
        options = self.options
        optimizer = torch.optim.AdamW(
            [p for p in self.parameters() if p.requires_grad],
            lr=options.learning_rate,
            weight_decay=options.weight_decay,
            fused=True,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule(optimizer, options), "interval": "step"},
        }


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
        model: offers ``training_loss`` and ``validation_loss``.
        train: tensors with one row per sample, handed out in shuffled batches.
        validation: the same for held-out donors, as one batch.
        seed: of batches, noise and dropout; the global random state is left as it was.
        title: stands before the progress and in errors.

    Returns:
        The record, plain JSON: ``curve`` (see ``Progress``), ``best_step``, ``best_validation_loss``,
        ``steps``, ``seconds``, ``device``, ``precision``, ``parameters``.

    Raises:
        TrainingDivergedError: if the loss is not finite.
    """
    device = resolve_device(options.device)
    average = MovingAverage(model, options.ema_decay, options.keep, options.patience)
    progress = Progress(options.max_steps, title)
    with ExitStack() as stack:
        stack.enter_context(quiet_lightning())
        stack.enter_context(compute_settings(seed, device, options.threads))
        model.to(device)
        module = FitModule(model, options, seed + 1, device)
        batches = MemoryBatches([t.to(device) for t in train], options.batch_size, seed + 2)
        trainer = build_trainer(options, device, [average, progress])
        started = time.perf_counter()
        trainer.fit(module, batches, WholeBatch([t.to(device) for t in validation]))
        seconds = time.perf_counter() - started
    model.to("cpu").eval()
    return {
        "curve": progress.curve,
        "best_step": average.best_step,
        "best_validation_loss": average.best_loss,
        "steps": average.steps,
        "seconds": round(seconds, 3),
        "device": device.type,
        "precision": "bfloat16" if mixed_precision(options, device) else "float32",
        "parameters": sum(p.numel() for p in model.parameters()),
    }
