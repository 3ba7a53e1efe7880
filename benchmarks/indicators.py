"""The costliest indicators of the scorecard, beside what a user would take instead.

Our pass over the profiles gives adversarial accuracy besides precision, recall, density and coverage; ``prdc`` asks for
eight threads, however many there are.
"""

from __future__ import annotations

import contextlib
import io

import numpy as np

from benchmarks.measure import Row, measure

K = 10


def by_matrix_root(real: np.ndarray, synthetic: np.ndarray) -> float:
    """Fréchet distance as it is usually written, with the root of a d x d matrix."""
    import scipy.linalg

    ours, theirs = (np.cov(x, rowvar=False) for x in (real, synthetic))
    root = scipy.linalg.sqrtm(ours @ theirs).real
    return float(np.square(real.mean(axis=0) - synthetic.mean(axis=0)).sum() + np.trace(ours + theirs - 2 * root))


def rows(device: str) -> list[Row]:
    from prdc import compute_prdc

    from transcriptome_diffusion.metrics.distances import frechet
    from transcriptome_diffusion.metrics.fidelity import fidelity

    rng = np.random.default_rng(0)
    real, synthetic = (rng.standard_normal((5000, 978), dtype=np.float32) for _ in range(2))
    few, others = (rng.normal(size=(512, 1500)) for _ in range(2))

    def prdc() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            compute_prdc(real, synthetic, K)

    costs = measure({"ours": lambda: fidelity(real, synthetic, K), "prdc": prdc}, 2)
    found = [Row("precision, recall, density, coverage, 5,000 x 978 a side", costs["ours"], "`prdc`", costs["prdc"])]
    costs = measure({"ours": lambda: frechet(few, others), "root": lambda: by_matrix_root(few, others)}, 1)
    return [*found, Row("Fréchet distance, 512 x 1,500 a side", costs["ours"], "`scipy.linalg.sqrtm`", costs["root"])]
