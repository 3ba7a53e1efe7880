"""Which processor computes, and whether it gains from bfloat16.

Apart from ``training``, so that sampling need not import Lightning.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


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


def gains_from_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` multiplies bfloat16 matrices in hardware, without which autocast slows it down."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)
    return False


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
