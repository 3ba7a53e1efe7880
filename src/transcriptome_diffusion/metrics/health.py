"""Whether a generator has diverged or collapsed: problems that a user is told before any indicator is read."""

from __future__ import annotations

import numpy as np

from transcriptome_diffusion.metrics.copying import spread
from transcriptome_diffusion.metrics.statistics import class_means


def problems(
    real: np.ndarray, real_labels: np.ndarray, synthetic: np.ndarray, synthetic_labels: np.ndarray
) -> tuple[dict[str, float], list[str]]:
    """Compare drawn profiles with training profiles; nothing here needs held-out donors.

    Args:
        real, synthetic: (n, n_genes) in one gene-wise standardised space.
        real_labels, synthetic_labels: one class per row.

    Returns:
        Two numbers, and a sentence for each that is out of bounds. The bounds are wide: two cohorts of
        one kind differ by less than half or twice as much. ``spread``: the variance within classes relative to real
        profiles. ``labels_kept``: the share of profiles that lie nearest to the mean of their own class,
        relative to real ones.
    """
    found = {"spread": spread(real, real_labels, synthetic, synthetic_labels)}
    classes = np.unique(real_labels)
    means = class_means(real, real_labels, classes)

    def kept(values: np.ndarray, labels: np.ndarray) -> float:
        # |x - m|^2 without the part that all classes share
        nearest = classes[(np.square(means).sum(axis=1) - 2 * values @ means.T).argmin(axis=1)]
        return float((nearest == labels).mean())

    found["labels_kept"] = kept(synthetic, synthetic_labels) / max(kept(real, real_labels), 1e-12)
    sentences = []
    if found["spread"] < 0.5:
        sentences.append(
            f"its profiles scatter {found['spread']:.2g} times as much within a class as training profiles do: it "
            "has collapsed towards the class means"
        )
    if found["spread"] > 2:
        sentences.append(
            f"its profiles scatter {found['spread']:.2g} times as much within a class as training profiles do: it "
            "is undertrained, or its sampler takes too few steps"
        )
    if found["labels_kept"] < 0.5:
        sentences.append(
            f"{found['labels_kept']:.0%} as many of its profiles as of the training profiles lie nearest to their "
            "own class: it hardly follows its labels"
        )
    return found, sentences
