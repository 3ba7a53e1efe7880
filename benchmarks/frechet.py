"""Fréchet distance with fewer profiles than features: singular values of the samples, and the root of two covariances.

Usage: python benchmarks/frechet.py [PROFILES] [FEATURES] [REPEATS]
"""

from __future__ import annotations

import statistics
import sys
import time
import tracemalloc

import numpy as np
import scipy.linalg

from transcriptome_diffusion.metrics.distances import frechet


def by_root(real: np.ndarray, synthetic: np.ndarray) -> float:
    """The formula as it is usually written, a d x d matrix root."""
    ours, theirs = (np.cov(x, rowvar=False) for x in (real, synthetic))
    root = scipy.linalg.sqrtm(ours @ theirs).real
    return float(np.square(real.mean(axis=0) - synthetic.mean(axis=0)).sum() + np.trace(ours + theirs - 2 * root))


def main(profiles: int = 512, features: int = 4096, repeats: int = 1) -> None:
    rng = np.random.default_rng(0)
    real, synthetic = (rng.normal(size=(profiles, features)) for _ in range(2))
    calls = {"ours": frechet, "sqrtm": by_root}
    values, peaks, seconds = {}, {}, {name: [] for name in calls}
    frechet(real[:50], synthetic[:50])  # imports and threads
    for _ in range(repeats):  # in turn, so that a machine that slows down slows both
        for name, call in calls.items():
            tracemalloc.start()
            started = time.perf_counter()
            values[name] = call(real, synthetic)
            seconds[name].append(time.perf_counter() - started)
            peaks[name] = tracemalloc.get_traced_memory()[1] / 2**20
            tracemalloc.stop()
    wall = {name: statistics.median(found) for name, found in seconds.items()}
    print(f"{profiles} profiles a side, d = {features}, medians of {repeats}")
    print(f"{'':<14}{'distance':>14}{'wall s':>12}{'peak MiB':>12}")
    for name in calls:
        print(f"{name:<14}{values[name]:14.4f}{wall[name]:12.3f}{peaks[name]:12.1f}")
    ratios = [found["sqrtm"] / found["ours"] for found in (values, wall, peaks)]
    print(f"{'sqrtm / ours':<14}{ratios[0]:14.4f}{ratios[1]:12.1f}{ratios[2]:12.1f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
