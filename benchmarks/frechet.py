"""Fréchet distance with fewer profiles than features: singular values of the samples, and the root of two covariances.

Usage: python benchmarks/frechet.py [PROFILES] [FEATURES] [REPEATS]
"""

from __future__ import annotations

import sys

import numpy as np
import scipy.linalg
from _timing import in_turn, show

from transcriptome_diffusion.metrics.distances import frechet


def by_root(real: np.ndarray, synthetic: np.ndarray) -> float:
    """The formula as it is usually written, a d x d matrix root."""
    ours, theirs = (np.cov(x, rowvar=False) for x in (real, synthetic))
    root = scipy.linalg.sqrtm(ours @ theirs).real
    return float(np.square(real.mean(axis=0) - synthetic.mean(axis=0)).sum() + np.trace(ours + theirs - 2 * root))


def main(profiles: int = 512, features: int = 4096, repeats: int = 1) -> None:
    rng = np.random.default_rng(0)
    real, synthetic = (rng.normal(size=(profiles, features)) for _ in range(2))
    show(
        in_turn(
            {"ours": lambda: frechet(real, synthetic), "scipy.linalg.sqrtm": lambda: by_root(real, synthetic)}, repeats
        )
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
