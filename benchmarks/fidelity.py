"""Precision, recall, density, coverage: our one pass and the ``prdc`` package on the same random profiles.

Every run is a process of its own on the same processors, with as many BLAS threads, so that its peak memory is its
own; memory is what comes on top of the profiles. Ours computes adversarial accuracy besides.

Usage: python benchmarks/fidelity.py [PROFILES] [GENES] [REPEATS] [PROCESSORS]
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np

K = 10


def ours() -> Callable[..., object]:
    from transcriptome_diffusion.metrics.fidelity import fidelity

    return fidelity


def prdc() -> Callable[..., object]:
    from prdc import compute_prdc

    return compute_prdc


def once(
    load: Callable[[], Callable[..., object]], profiles: int, genes: int, processors: set[int]
) -> tuple[float, float, float]:
    """Wall and processor seconds, and MiB at the peak beyond those before the call."""
    os.sched_setaffinity(0, processors)  # prdc asks for eight threads, however many there are
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


def main(profiles: int = 12_000, genes: int = 978, repeats: int = 3, processors: int = 1) -> None:
    chosen = set(sorted(os.sched_getaffinity(0))[:processors])
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(len(chosen))  # read by the new processes
    names = {"ours": ours, "prdc": prdc}
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    spawn = multiprocessing.get_context("spawn")
    for _ in range(repeats):  # in turn, so that a machine that slows down slows both
        for name, load in names.items():
            with ProcessPoolExecutor(1, mp_context=spawn) as process:
                runs[name].append(process.submit(once, load, profiles, genes, chosen).result())
    medians = {name: [statistics.median(part) for part in zip(*found, strict=True)] for name, found in runs.items()}
    medians["prdc / ours"] = [theirs / own for theirs, own in zip(medians["prdc"], medians["ours"], strict=True)]
    print(f"{profiles} x {genes} a side, k = {K}, {len(chosen)} processor(s), medians of {repeats}")
    print(f"{'':<12}{'wall s':>12}{'processor s':>14}{'peak MiB':>12}")
    for name, (wall, spent, memory) in medians.items():
        print(f"{name:<12}{wall:12.2f}{spent:14.2f}{memory:12.1f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
