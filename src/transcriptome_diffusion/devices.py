"""Which processor computes, with how many threads, and whether it multiplies in bfloat16.

Apart from ``training``, so that sampling need not import Lightning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import RLock

import torch
from torch import nn

#: that training takes for a parameter: its value, gradient, two moments, average, and a copy in a checkpoint
BYTES_PER_PARAMETER = 24.0
#: torch has one stream of random numbers, which threads of a process would take from each other
_RANDOM = RLock()


def resolve_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        ValueError: if the named device is not present on this machine.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in present.items() if there)
    if not present.get(name, False):
        raise ValueError(
            f"device {name!r} is not available here, where torch {torch.__version__} finds "
            f"{[kind for kind, there in present.items() if there]}; set `device: auto` in the parameters."
        )
    return torch.device(name)


def multiplies_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether matrices are multiplied in bfloat16; ``auto`` does so where the hardware has instructions for it."""
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def autocasts(precision: str, device: torch.device) -> bool:
    """Whether to train under autocast to bfloat16; weights and losses stay float32 either way.

    With ``auto`` not on a CPU: there oneDNN rounds to bfloat16 within the products of float32 matrices, if
    ``torch.set_float32_matmul_precision`` is "medium", and the casts between layers only cost time.
    """
    return multiplies_bfloat16(precision, device) and (precision == "bfloat16" or device.type != "cpu")


@contextmanager
def seeded(seed: int, cuda: Sequence[int] = ()) -> Iterator[None]:
    """Torch's own random numbers (of new layers, of dropout) from ``seed``, and the caller's state put back.

    One thread of a process at a time, so that nodes that run in threads have the random numbers of their seed.

    Args:
        cuda: numbers of the devices whose state is put back as well.
    """
    with _RANDOM, torch.random.fork_rng(devices=list(cuda)):
        torch.manual_seed(seed)
        yield


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Let torch use ``count`` threads on the CPU (None: as many as it did), and put the number back.

    Small networks want one: threads that wait for each other spin, and on a busy machine that costs far more
    than a second core could win.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def memory_to_train(make: Callable[[], nn.Module]) -> float:
    """Bytes that training takes for the parameters of the network that ``make`` builds; none is allocated here."""
    with torch.device("meta"):
        return BYTES_PER_PARAMETER * sum(parameter.numel() for parameter in make().parameters())
