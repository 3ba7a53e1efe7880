"""What a training, or a run of several, will cost: said before it starts."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
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
#: of a run: what is read and written between products is so this many times in a step, as measured (docs/paper.md)
PASSES = 10
#: seconds of a processor for a call of a network, of any size
CALL = 2e-3
#: by so much a measured time exceeds the estimate or falls short of it
ACCURACY = 1.6
#: seconds of a run below which nothing is said
WORTH_SAYING = 60
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
    """Operations a second of a matrix product about as large as those of the network, measured here for .2 s.

    On a CPU ``bfloat16`` rounds within products of float32 matrices, as in training.
    """
    width = max(min(math.isqrt(parameters), 4096), 16)
    dtype = torch.bfloat16 if bfloat16 and device.type != "cpu" else torch.float32
    rows, weights = (torch.ones(n, width, device=device, dtype=dtype) for n in (batch_size, width))
    before = torch.get_float32_matmul_precision()
    try:
        if device.type == "cpu":
            torch.set_float32_matmul_precision("medium" if bfloat16 else "highest")
        return 2 * batch_size * width * width / _seconds(lambda: rows @ weights, device)
    finally:
        torch.set_float32_matmul_precision(before)


def measure_pass(device: torch.device) -> float:
    """Seconds in which an operation reads a float32 number and writes one, on arrays that no cache holds."""
    read = torch.ones(1 << 24, device=device)
    written = torch.empty_like(read)
    return _seconds(lambda: torch.mul(read, 2.0, out=written), device) / read.numel()


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    """Of one call, after a first one: what is set up once does not count."""
    call()
    done, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < 0.2:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        done += 1
    return seconds / done


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
class Layers:
    """Sizes of a network, or of a part: its parameters, and numbers in and out of its dense layers for one profile."""

    parameters: int = 0
    numbers: int = 0


@dataclass(frozen=True)
class Work:
    """A part of a run.

    Attributes:
        title: for readers. runs: how often it is done.
        network: what is evaluated. rows: profiles that it sees at a time.
        operations: of the matrix products of one run.
        numbers: that are read and written between products, several times each.
        calls: of the network, forward alone or with the way back.
        precision: of the products, as in ``TrainingOptions``.
        memory: bytes that one run takes at its peak; 0 where that is not known.
    """

    title: str
    runs: int
    network: Layers
    rows: int
    operations: float
    numbers: float
    calls: float
    precision: str = "float32"
    memory: float = 0.0

    def seconds(self, device: torch.device, one_pass: float) -> float:
        """Of all runs on this machine. ``one_pass``: as ``measure_pass`` gives it."""
        bfloat16 = multiplies_bfloat16(self.precision, device)
        products = self.operations / measure_rate(self.network.parameters, self.rows, device, bfloat16)
        return self.runs * (products + PASSES * one_pass * self.numbers + CALL * self.calls)


def work_of_training(
    title: str,
    runs: int,
    options: TrainingOptions,
    rows: int,
    whole: Layers,
    critic: Layers,
    critic_steps: int,
    memory: float,
) -> Work:
    """``runs`` trainings on ``rows`` profiles; ``critic`` is the part of ``whole`` that makes ``critic_steps``."""
    batch = min(options.batch_size, rows)
    batches, rest = divmod(rows, batch)
    steps = options.max_steps
    if options.max_epochs is not None:
        per_step = critic_steps if critic_steps and options.critic_batches == "new" else 1
        batches += options.partial_batches and rest >= 2
        steps = max(round(options.max_epochs * batches / per_step), 1)
    updates = critic_steps * critic.parameters + whole.parameters - critic.parameters
    # as products are counted in ``operations``
    numbers = (1 + 4 * critic_steps) * critic.numbers + (1 + critic_steps / 3) * (whole.numbers - critic.numbers)
    return Work(
        f"{title}: {whole.parameters / 1e6:.1f} million parameters, {steps} steps of {batch} profiles at most",
        runs,
        whole,
        batch,
        operations=operations(whole.parameters, batch, steps, critic.parameters, critic_steps),
        numbers=steps * (batch * numbers + updates),
        calls=steps * (1 + 2 * critic_steps),
        precision=options.precision,
        memory=memory,
    )


def announce_run(works: Sequence[Work], sizes: str) -> None:
    """Log in one block how long the parts of a run will take on this machine, one after another, and their memory.

    Runs of less than a minute pass in silence.

    Args:
        sizes: of the cohort, in words.
    """
    device = resolve_device("auto")
    one_pass = measure_pass(device)
    lines, total = [], 0.0
    for work in works:
        if work.runs and work.operations:
            total += (seconds := work.seconds(device, one_pass))
            lines.append(f"  {work.runs} x {work.title}: {_about(seconds)}")
    if ACCURACY * total < WORTH_SAYING:
        return
    peak = max(works, key=lambda work: work.memory)
    if peak.memory:
        lines.append(f"Memory of trainings: up to {peak.memory / GB:.1f} GB, for {peak.title.partition(':')[0]}.")
    logger.info(
        "What follows takes about %s on this %s, one after another, with %s:\n%s\n%s",
        *(_about(total), "GPU" if device.type == "cuda" else "processor", sizes),
        *("\n".join(lines), NOT_COUNTED),
    )


def _about(seconds: float) -> str:
    return f"{duration(seconds / ACCURACY)} to {duration(ACCURACY * seconds)}"


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.5 h`` or ``6 days``, for readers."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"
