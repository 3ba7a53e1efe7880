"""What a training, or a run of several, will cost: said before it starts."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from transcriptome_diffusion.devices import multiplies_bfloat16, resolve_device
from transcriptome_diffusion.memory import GB
from transcriptome_diffusion.options import TrainingOptions

logger = logging.getLogger(__name__)

#: floating-point operations below which nothing is said: a minute or so of one processor core
LEAST = 2e13
#: operations for a weight and a profile: a product and a sum, forward once, backward twice
PER_WEIGHT = 6
#: bytes for a weight: itself, its gradient, two moments, its average
BYTES = 20
#: a step takes between once and this many times its matrix products (benchmarks/README.md)
OVERHEAD = 2.5
#: of a run
NOT_COUNTED = (
    "Not counted: reading the cohort, generators in coordinates of a preconditioner, reconstructions, the scorecard, "
    "neighbours, figures; and the memory of scoring."
)


def operations(parameters: int, batch_size: int, steps: int, critic: int = 0, critic_steps: int = 0) -> float:
    """Floating-point operations of the matrix products of a training of dense layers.

    A step of a critic passes its weights four times, forward and backward (real, generated and mixed profiles, and the
    gradient of the penalty, which is a gradient itself), and draws from the generator, which is forward alone.

    Args:
        parameters: all. critic: those of them that are a critic's, which makes ``critic_steps`` for each of ``steps``.
    """
    weights = (1 + 4 * critic_steps) * critic + (1 + critic_steps / 3) * (parameters - critic)
    return float(PER_WEIGHT) * weights * batch_size * steps


def measure_rate(parameters: int, batch_size: int, device: torch.device, bfloat16: bool) -> float:
    """Operations a second of a matrix product about as large as those of the network, measured here for .2 s."""
    width = max(min(math.isqrt(parameters), 4096), 16)
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    rows, weights = (torch.ones(n, width, device=device, dtype=dtype) for n in (batch_size, width))
    rows @ weights  # what is set up once does not count
    done, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < 0.2:
        rows @ weights
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        done += 1
    return 2 * done * batch_size * width * width / seconds


def announce(
    title: str,
    parameters: int,
    batch_size: int,
    steps: int,
    device: torch.device,
    bfloat16: bool,
    critic: int = 0,
    critic_steps: int = 0,
) -> None:
    """Log how long a large training will take and how much memory its weights do; small ones pass in silence.

    Args:
        title: the training, as in its progress. bfloat16: whether products are taken in it.
        parameters, critic, critic_steps: as in ``operations``.
    """
    needed = operations(parameters, batch_size, steps, critic, critic_steps)
    if needed < LEAST:
        return
    seconds = needed / measure_rate(parameters, batch_size, device, bfloat16)
    logger.info(
        "%s: %.1f million parameters, %d steps of %d profiles at most: %s to %s on this %s by its matrix products, "
        "%.1f GB for weights, gradients, moments and averages",
        *(title, parameters / 1e6, steps, batch_size),
        *(duration(seconds), duration(OVERHEAD * seconds), "GPU" if device.type == "cuda" else "processor"),
        BYTES * parameters / GB,
    )


@dataclass(frozen=True)
class Work:
    """A part of a run by its matrix products.

    Attributes:
        title: for readers. operations: of one of ``runs``.
        parameters: of the network. rows: that it sees at a time.
        precision: of the products, as in ``TrainingOptions``.
        memory: bytes that one of them takes at its peak; 0 where that is not known.
    """

    title: str
    operations: float
    parameters: int
    rows: int
    precision: str = "float32"
    runs: int = 1
    memory: float = 0.0


def training_work(
    title: str,
    options: TrainingOptions,
    rows: int,
    parameters: int,
    critic: int,
    critic_steps: int,
    runs: int,
    memory: float,
) -> Work:
    """``runs`` trainings of one network, by the number of training rows; the other arguments as in ``operations``."""
    batch = min(options.batch_size, rows)
    whole, rest = divmod(rows, batch)
    steps = options.max_steps
    if options.max_epochs is not None:
        per_epoch = whole + (options.partial_batches and rest >= 2)
        apart = critic_steps if critic and options.critic_batches == "new" else 1
        steps = max(round(options.max_epochs * per_epoch / apart), 1)
    needed = operations(parameters, batch, steps, critic, critic_steps)
    about = f"{title}: {parameters / 1e6:.1f} million parameters, {steps} steps of {batch} profiles at most"
    return Work(about, needed, parameters, batch, options.precision, runs, memory)


def announce_run(works: Sequence[Work], sizes: str) -> None:
    """Log in one block how long the parts of a run will take on this machine, one after another, and their memory.

    Args:
        sizes: of the cohort, in words.
    """
    device = resolve_device("auto")
    lines, total = [], 0.0
    for work in works:
        if not work.runs or not work.operations:
            continue
        bfloat16 = multiplies_bfloat16(work.precision, device)
        seconds = work.runs * work.operations / measure_rate(work.parameters, work.rows, device, bfloat16)
        total += seconds
        lines.append(f"  {work.runs} x {work.title}: {_between(seconds)}")
    if not lines:
        return
    peak = max(works, key=lambda work: work.memory)
    if peak.memory:
        lines.append(f"Memory of trainings: up to {peak.memory / GB:.1f} GB, for {peak.title.partition(':')[0]}.")
    logger.info(
        "What follows takes %s on this %s, one after another, by its matrix products, with %s:\n%s\n%s",
        *(_between(total), "GPU" if device.type == "cuda" else "processor", sizes),
        *("\n".join(lines), NOT_COUNTED),
    )


def _between(seconds: float) -> str:
    return f"{duration(seconds)} to {duration(OVERHEAD * seconds)}"


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.5 h`` or ``6 days``, for readers."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"
