"""Values that metrics are expected to have for new profiles of the population, at the sizes that are compared."""

from __future__ import annotations

import numpy as np
import pandas as pd

from transcriptome_diffusion.metrics.options import EvaluationOptions
from transcriptome_diffusion.metrics.reference import SpaceReference
from transcriptome_diffusion.metrics.registry import METRICS, select
from transcriptome_diffusion.metrics.statistics import matched

#: the adversarial accuracy and its two halves, which have the same expectation
ADVERSARIAL = tuple(name for name in select("fidelity:fidelity") if name.startswith("adversarial_accuracy"))


def expected_adversarial_accuracy(sizes: np.ndarray, own: np.ndarray | float = 1.0) -> float:
    """Expectation of the adversarial accuracy, and of both its halves, for two samples of one population.

    Where both sides have ``n_t`` profiles of class t, a profile has n_t - 1 possible neighbours of its class on its own
    side and n_t on the other. So a nearest neighbour of the same class is on the same side with probability
    (n_t - 1) / (2 n_t - 1), and one of another class with probability ½. Exact, since within a class any assignment of
    the pooled profiles to the two sides is equally probable.

    Args:
        sizes: profiles of each class on each side, (n_classes,), all at least 1.
        own: probability that the nearest neighbour of a profile has its class, for each class (n_classes,) or for all.
    """
    sizes = np.asarray(sizes, dtype=np.float64)
    same = own * (sizes - 1) / (2 * sizes - 1) + (1 - np.asarray(own)) / 2
    return float(np.average(same, weights=sizes))


def expected_scores(scored: pd.DataFrame, reference: SpaceReference, options: EvaluationOptions) -> pd.DataFrame:
    """The row ``expected``: for each metric of the row ``real`` its expected value, where that is known.

    It is the null of ``registry.METRICS`` or, for the adversarial accuracy, ``expected_adversarial_accuracy`` of the
    matched tissues; how often the nearest neighbour of a profile has its tissue is taken from held-out donors and their
    nearest training donors.

    Args:
        scored: the table of the row ``real`` in the space of ``reference``.

    Returns:
        A row per reference and metric, with the columns of ``scored``.
    """
    test, train = reference.test, reference.train
    labels = reference.sampled["test"].labels
    near_own = train.labels[reference.test_nearest] == labels
    side, _ = next(matched(test, train, test, 1, options.seed, options.most_profiles))
    classes, sizes = np.unique(side.labels, return_counts=True)
    own = np.array([near_own[labels == label].mean() for label in classes])
    values = {name: metric.null for name, metric in METRICS.items()}
    values |= dict.fromkeys(ADVERSARIAL, expected_adversarial_accuracy(sizes, own))
    found = scored[(scored["label"] == "") & scored["value"].notna()].drop_duplicates(["reference", "metric"])
    found = found.assign(value=found["metric"].map(values), draw=0, low=np.nan, high=np.nan, note="")
    return found.dropna(subset="value")
