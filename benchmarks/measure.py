"""What all benchmarks share: rows of the table, timing in turn, peak memory, floors of matrix products, the machine."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

HEADER = """\
| benchmark | ours | compared with | it | ours / it | asked | memory of ours | of it |
|---|--:|---|--:|--:|--:|--:|--:|"""


def clock() -> float:
    """Seconds: on one thread of the processor's, which other work on the machine disturbs least; else of the wall."""
    single = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return time.process_time() if single else time.perf_counter()


class Cost(NamedTuple):
    """Seconds, and MB beyond what was in use before (None: not measured)."""

    seconds: float
    memory: float | None = None


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        name: what is measured.
        ours: our cost. other: that of a rival, or of the floor. against: the name of the other.
        asked: at most this many times the other; None where nothing is asked.
        unit: of the first number of a cost.
    """

    name: str
    ours: Cost
    against: str
    other: Cost
    asked: float | None = None
    unit: str = "s"

    def __str__(self) -> str:
        numbers = [f"{cost.seconds:.3g} {self.unit}" for cost in (self.ours, self.other)]
        memory = ["" if cost.memory is None else f"{cost.memory:.0f} MB" for cost in (self.ours, self.other)]
        ratio = self.ours.seconds / self.other.seconds if self.other.seconds else float("nan")
        asked = "" if self.asked is None else f"{self.asked:g} {'✓' if ratio <= self.asked else '✗'}"
        return f"| {' | '.join([self.name, numbers[0], self.against, numbers[1], f'{ratio:.2f}', asked, *memory])} |"


def measure(calls: Mapping[str, Callable[[], object]], repeats: int, device: str = "cpu") -> dict[str, Cost]:
    """The least seconds and the highest peak of each call, made in turn ``repeats`` times after an uncounted round.

    In turn, so that a machine that slows down slows all of them. Minima, since other work on the machine only adds.
    With one repeat there is no uncounted round: for calls of many seconds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    peaks = dict.fromkeys(calls, 0.0)
    for repeat in range(repeats + (repeats > 1)):
        for name, call in calls.items():
            taken, peak = once(call, device)
            peaks[name] = max(peaks[name], peak)
            if repeat or repeats == 1:
                seconds[name].append(taken)
    return {name: Cost(min(found), peaks[name]) for name, found in seconds.items()}


def once(call: Callable[[], object], device: str = "cpu") -> tuple[float, float]:
    """Seconds of one call, and its peak in MB beyond what was in use before (of the GPU on ``cuda``)."""
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        ctypes.CDLL(None).malloc_trim(0)  # pages that earlier calls left would be used again, and not count
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak of resident memory
        before = resident("VmRSS")
    started = clock()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    taken = clock() - started
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else resident("VmHWM")
    return taken, (peak - before) / 1e6


def resident(field: str) -> int:
    """Bytes of this process: ``VmRSS`` now, ``VmHWM`` at most."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


class MatrixProducts(TorchDispatchMode):
    """Counts the matrix products that torch does inside this context, by shape, layout and precision.

    Attributes:
        found: how often each product was done.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[Any] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("mm", "bmm", "addmm", "baddbmm"):
            a, b = args[-2:]
            layout = tuple((t.shape, t.stride()) for t in (a, b))
            self.found[layout, a.dtype, torch.get_float32_matmul_precision()] += 1
        return func(*args, **(kwargs or {}))


def floor_of_a_step(run: Callable[[int], object], device: str) -> Callable[[], None]:
    """A function that does the matrix products of one step alone, each with operands of its own.

    Args:
        run: takes the number of steps; a step is the difference between three of them and two.
    """
    counts = []
    for steps in (3, 2):
        with MatrixProducts() as products:
            run(steps)
        counts.append(products.found)
    operands = []
    for (layout, dtype, precision), count in (counts[0] - counts[1]).items():
        for _ in range(count):
            a, b = (
                torch.empty_strided(shape, stride, dtype=dtype, device=device).normal_() for shape, stride in layout
            )
            operands.append((precision, a, b, torch.matmul(a, b)))

    def floor() -> None:
        before = torch.get_float32_matmul_precision()
        for precision, a, b, out in operands:
            if precision != torch.get_float32_matmul_precision():
                torch.set_float32_matmul_precision(precision)
            torch.matmul(a, b, out=out)
        torch.set_float32_matmul_precision(before)

    return floor


def describe_machine(device: str) -> str:
    """Processor, cores, instruction set, threads, torch and commit, in one line."""
    cpu = platform.processor()
    if (info := Path("/proc/cpuinfo")).exists():
        cpu = info.read_text().split("model name\t: ")[1].split("\n")[0]
    sets = {"AMX": "_is_amx_tile_supported", "AVX-512 BF16": "_is_avx512_bf16_supported"}
    more = [name for name, probe in sets.items() if getattr(torch.cpu, probe, lambda: False)()]
    root = Path(__file__).resolve().parents[1]
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True).stdout
    parts = [
        f"{cpu}, {os.cpu_count()} cores",
        ", ".join([torch.backends.cpu.get_cpu_capability(), *more]),
        f"{(threads := torch.get_num_threads())} thread{'s' if threads > 1 else ', seconds of processor'}",
        f"load {os.getloadavg()[0]:.1f}",
        *([torch.cuda.get_device_name()] if device == "cuda" else []),
        f"torch {torch.__version__}",
        f"Python {platform.python_version()}",
        f"commit {commit.strip() or 'unknown'}",
    ]
    return "; ".join(parts)


def table(rows: Iterable[Row]) -> str:
    """The rows in Markdown."""
    return "\n".join([HEADER, *map(str, rows)])
