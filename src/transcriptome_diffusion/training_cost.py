"""What a training will cost, said before it starts."""

from __future__ import annotations

import logging
import math
import time

import torch

from transcriptome_diffusion.memory import GB

logger = logging.getLogger(__name__)

#: floating-point operations below which nothing is said: a minute or so of one processor core
LEAST = 2e13
#: operations for a weight and a profile: a product and a sum, forward once, backward twice
PER_WEIGHT = 6
#: bytes for a weight: itself, its gradient, two moments, its average
BYTES = 20
#: a step takes between once and this many times its matrix products (benchmarks/README.md)
OVERHEAD = 2.5


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


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.5 h`` or ``6 days``, for readers."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"
