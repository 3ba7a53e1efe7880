"""All indicators of one generator in one space, on matched sample sizes, as a table of single draws."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from transcriptome_diffusion.metrics.copying import copying, spread
from transcriptome_diffusion.metrics.correlation import correlation_score
from transcriptome_diffusion.metrics.fidelity import fidelity
from transcriptome_diffusion.metrics.utility import Labelled, reverse_validation
from transcriptome_diffusion.parameters import ClassifierOptions


def matched(
    first: Labelled, second: Labelled, size_of: Labelled, draws: int, seed: int
) -> Iterator[tuple[Labelled, Labelled]]:
    """Random subsets of two sets with equal size and equal label composition.

    Nearest-neighbour indicators depend on the sample size and on the mixture of tissues, so both sides get,
    label by label, as many profiles as ``size_of`` has, or as many as the scarcer side can give.

    Raises:
        ValueError: if one side lacks a label of ``size_of`` altogether.
    """
    labels, counts = np.unique(size_of.labels, return_counts=True)
    for side in (first, second):
        if missing := sorted(set(labels.tolist()) - set(side.labels.tolist())):
            raise ValueError(f"no profiles with the label {missing}; every tissue has to be generated.")
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw])
        chosen: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for label, count in zip(labels, counts, strict=True):
            rows = [np.flatnonzero(side.labels == label) for side in (first, second)]
            size = min(count, *map(len, rows))
            for taken, available in zip(chosen, rows, strict=True):
                taken.append(rng.choice(available, size, replace=False))
        yield _subset(first, np.concatenate(chosen[0])), _subset(second, np.concatenate(chosen[1]))


def _subset(profiles: Labelled, rows: np.ndarray) -> Labelled:
    return Labelled(profiles.values[rows], profiles.labels[rows])


def score(
    against_test: Labelled,
    against_train: Labelled,
    train: Labelled,
    validation: Labelled,
    test: Labelled,
    *,
    neighbours: int,
    draws: int,
    seed: int,
    classifier: ClassifierOptions,
) -> pd.DataFrame:
    """Every indicator, each draw a row: ``reference``, ``metric``, ``draw``, ``value``, ``n``.

    For a generator the first two arguments are the same profiles. For the row ``real`` they are the training
    donors (scored against held-out ones) and the held-out donors (scored against train).

    Fidelity, correlation and spread are computed on ``draws`` matched subsets of the size of ``test``,
    against test and against train. Reverse validation trains on all of ``against_test``, chooses on
    validation donors and is tested on ``test``; a draw is a classifier seed. Copying looks at distances to
    train alone and uses all profiles.
    """
    rows: list[tuple[str, str, int, float, int]] = []
    for reference, real, candidate in (("test", test, against_test), ("train", train, against_train)):
        for draw, (ours, theirs) in enumerate(matched(real, candidate, test, draws, seed)):
            found = fidelity(ours.values, theirs.values, neighbours)
            found["correlation"] = correlation_score(ours.values, theirs.values)
            found["spread"] = spread(ours.values, ours.labels, theirs.values, theirs.labels)
            rows += [(reference, metric, draw, value, len(ours.labels)) for metric, value in found.items()]
    accuracies = reverse_validation(against_test, validation, test, classifier)
    for metric, values in accuracies.items():
        rows += [("test", metric, draw, value, len(test.labels)) for draw, value in enumerate(values)]
    share = copying(against_train.values, train.values, test.values)
    rows.append(("train", "copying", 0, share, len(against_train.labels)))
    return pd.DataFrame(rows, columns=["reference", "metric", "draw", "value", "n"])
