"""How well two clouds of profiles cover each other: k-nearest-neighbour indicators and adversarial accuracy."""

from __future__ import annotations

import numpy as np

from transcriptome_diffusion.metrics.neighbours import distance_blocks, neighbour_distances


def fidelity(real: np.ndarray, synthetic: np.ndarray, k: int) -> dict[str, float]:
    """Six indicators from the distances within and between two sets of profiles, each computed once.

    Both arrays are (n, n_genes) in one gene-wise standardised space. All indicators depend on n and on
    n_real / n_synthetic, so sizes should be equal; the null values hold for two equally large samples of
    one distribution. A ball is that around a profile which reaches to its k-th nearest neighbour in its
    own set, itself excluded (open, as in the ``prdc`` package).

    - ``precision``: share of synthetic profiles within a ball of a real one; best 1, null near 1
      (Kynkäänniemi et al. 2019, arXiv:1904.06991).
    - ``recall``: share of real profiles within a ball of a synthetic one; best 1, null near 1 (as above).
    - ``f1``: the harmonic mean of the two, 0 if both are 0.
    - ``density``: number of real balls around a synthetic profile over k; null 1, above 1 where synthetic
      profiles crowd where real ones are dense (Naeem et al. 2020, arXiv:2002.09797).
    - ``coverage``: share of real balls that hold a synthetic profile; best 1, null
      1 - (n-1)···(n-k) / ((2n-1)···(2n-k)), about 1 - 2^-k (as above).
    - ``adversarial_accuracy``: ½ [share of real profiles nearer to a real than to a synthetic one + the
      reverse]; null and best 0.5, towards 0 copies, towards 1 told apart (Yale et al. 2020,
      doi:10.1016/j.neucom.2019.12.136).

    Raises:
        ValueError: if k is not below both n, the widths differ, or values are not finite.
    """
    within_real = neighbour_distances(real, k)
    within_synthetic = neighbour_distances(synthetic, k)
    ball_real, ball_synthetic = within_real[:, -1], within_synthetic[:, -1]

    balls_around = np.zeros(len(synthetic), dtype=np.int64)  # real balls that hold a synthetic profile
    recalled = np.empty(len(real), dtype=bool)
    to_synthetic = np.empty(len(real))
    to_real = np.full(len(synthetic), np.inf)
    for rows, distances in distance_blocks(real, synthetic):
        balls_around += (distances < ball_real[rows, None]).sum(axis=0)
        recalled[rows] = (distances < ball_synthetic).any(axis=1)
        to_synthetic[rows] = distances.min(axis=1)
        np.minimum(to_real, distances.min(axis=0), out=to_real)

    precision, recall = float((balls_around > 0).mean()), float(recalled.mean())
    apart = (to_synthetic > within_real[:, 0]).mean() + (to_real > within_synthetic[:, 0]).mean()
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        "density": float(balls_around.mean() / k),
        "coverage": float((to_synthetic < ball_real).mean()),
        "adversarial_accuracy": float(apart / 2),
    }
