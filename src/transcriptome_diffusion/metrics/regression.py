"""How well a reconstruction meets the real values."""

from __future__ import annotations

import numpy as np

from transcriptome_diffusion.expression.scaling import GeneScaler


def reconstruction_quality(real: np.ndarray, rebuilt: np.ndarray, scaler: GeneScaler) -> dict[str, float]:
    """Errors and explained variance of rebuilt targets, both arrays (n_samples, n_genes) in the log unit.

    - ``mae``: mean absolute error in the log unit; ``mae_standardised``: the same in training standard
      deviations (the unit of Lacan et al. 2026).
    - ``r2_mean``, ``r2_median``: over genes, of 1 - residual sum of squares / total sum of squares among the
      real samples; genes that do not vary among them are left out.

    Raises:
        ValueError: if no gene varies among the real samples.
    """
    error = rebuilt.astype(np.float64) - real
    total = np.square(real - real.mean(axis=0, dtype=np.float64)).sum(axis=0)
    varies = real.max(axis=0) > real.min(axis=0)
    if not varies.any():
        raise ValueError(f"none of {real.shape[1]} target genes varies among {len(real)} samples; R² is undefined.")
    r2 = 1 - np.square(error).sum(axis=0)[varies] / total[varies]
    return {
        "mae": float(np.abs(error).mean()),
        "mae_standardised": float(np.abs(error / scaler.scale).mean()),
        "r2_mean": float(r2.mean()),
        "r2_median": float(np.median(r2)),
    }
