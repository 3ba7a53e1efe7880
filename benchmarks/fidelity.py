"""Precision, recall, density, coverage: our one pass and the ``prdc`` package on the same random profiles.

Usage: python benchmarks/fidelity.py [PROFILES] [GENES] [REPEATS]
"""

from __future__ import annotations

import sys

import numpy as np
from _timing import in_turn, show
from prdc import compute_prdc

from transcriptome_diffusion.metrics.fidelity import fidelity


def main(profiles: int = 2000, genes: int = 978, repeats: int = 3) -> None:
    rng = np.random.default_rng(0)
    real, synthetic = (rng.normal(size=(profiles, genes)).astype(np.float32) for _ in range(2))
    show(
        in_turn(
            {
                "ours (adversarial accuracy included)": lambda: fidelity(real, synthetic, 10),
                "prdc": lambda: compute_prdc(real, synthetic, 10),
            },
            repeats,
        )
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
