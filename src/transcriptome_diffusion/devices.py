"""Which processor computes, and whether it gains from bfloat16.

Apart from ``training``, so that sampling need not import Lightning.
"""

from __future__ import annotations

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
