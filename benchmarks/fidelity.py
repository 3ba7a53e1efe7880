"""Precision, recall, density, coverage: our one pass and the ``prdc`` package on the same random profiles.

Every run is a process of its own, so that its peak memory is its own; memory is what comes on top of the profiles.

Usage: python benchmarks/fidelity.py [PROFILES] [GENES] [REPEATS]
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np

K = 10
UNITS = ("s", "s of processors", "MiB")


def ours() -> Callable[..., object]:
    from transcriptome_diffusion.metrics.fidelity import fidelity

    return fidelity


def prdc() -> Callable[..., object]:
    from prdc import compute_prdc

    return compute_prdc


def once(load: Callable[[], Callable[..., object]], profiles: int, genes: int) -> tuple[float, float, float]:
    """Wall and processor seconds, and MiB at the peak beyond those before the call."""
    rng = np.random.default_rng(0)
    real, synthetic = (rng.standard_normal((profiles, genes), dtype=np.float32) for _ in range(2))
    call = load()
    with contextlib.redirect_stdout(io.StringIO()):
        call(real[:50], synthetic[:50], K)  # imports and threads
        before, started, spent = _peak(), time.perf_counter(), time.process_time()
        call(real, synthetic, K)
    return time.perf_counter() - started, time.process_time() - spent, _peak() - before


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(profiles: int = 12_000, genes: int = 978, repeats: int = 3) -> None:
    names = {"ours (adversarial accuracy included)": ours, "prdc": prdc}
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    spawn = multiprocessing.get_context("spawn")
    for _ in range(repeats):  # in turn, so that a machine that slows down slows both
        for name, load in names.items():
            with ProcessPoolExecutor(1, mp_context=spawn) as process:
                runs[name].append(process.submit(once, load, profiles, genes).result())
    medians = {name: [statistics.median(part) for part in zip(*found, strict=True)] for name, found in runs.items()}
    first = next(iter(medians.values()))
    print(f"{profiles} x {genes} a side, medians of {repeats}, and how many times the first row's")
    for name, found in medians.items():
        wall, spent, memory = (
            f"{x:9.2f} {unit} x {x / y:<5.2f}" for x, y, unit in zip(found, first, UNITS, strict=True)
        )
        print(f"{name:<38}{wall}{spent}{memory}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
