"""Classifier two-sample tests: whether a classifier separates synthetic from real profiles that it has not seen."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats
from scipy import sparse
from scipy.special import expit

from transcriptome_diffusion.metrics.neighbours import Pair
from transcriptome_diffusion.metrics.span import axes_in_span, products
from transcriptome_diffusion.metrics.statistics import auc
from transcriptome_diffusion.metrics.threads import one_thread_if_small

#: more genes than this reach the classifiers as principal components
MAX_INPUTS = 1024
#: profiles a side below which the folds are too small for an AUC
LEAST = 25
#: a synthetic profile this much nearer to a real one than real ones are to each other counts as its copy
NEAR = 0.5
#: bins of an input of the boosted trees
BINS = 31
#: boosted trees, and share of the inputs that each sees
TREES, SHARE = 60, 0.2

#: something known of the rows of both sides, or not
Known = tuple[np.ndarray, np.ndarray] | None


class TwoSampleResult(NamedTuple):
    """A cross-validated area under the ROC curve; NaN where ``note`` says why."""

    auc: float
    low: float
    high: float
    p: float
    note: str = ""


@one_thread_if_small
def classifier_tests(
    real: np.ndarray,
    synthetic: np.ndarray,
    *,
    strata: Known = None,
    donors: Known = None,
    folds: int = 5,
    seed: int = 0,
    logistic_c: float = 1.0,
    classifiers: Sequence[str] = ("logistic", "boosted"),
    pair: Pair | None = None,
) -> dict[str, TwoSampleResult]:
    """How well ``logistic`` (L2) and ``boosted`` (trees) classifiers separate the two sides, on held-out folds.

    Lopez-Paz & Oquab (2017), arXiv:1610.06545, with the AUC in place of the accuracy. Best and null .5; 1 if the
    sides are separated without error. The logistic regression sees shifts of genes, the trees also scales, shapes and
    pairs. Sides should have equal size and class composition, else the classifiers separate the classes.

    Folds hold as many real as synthetic profiles of each stratum, as far as the sides do. By chance alone,
    a tissue with more synthetic profiles in the training folds has more real ones in the test fold, and
    tissues are so easily seen that the AUC of two samples of one distribution would lie at .4.

    A profile, its copies and near copies on either side (within ``NEAR`` times the median distance between nearest
    real profiles) and further profiles of its donor stay in one fold: a classifier that has seen the original
    would take a copy for real, and one that has seen a copy would recognise the original. A generator of copies thus
    is at .5: ``copying`` and the privacy indicators detect it. Beyond ``MAX_INPUTS`` genes both see the principal
    components of the two sides together, found without the labels.

    Args:
        real, synthetic: (n, n_genes) in one gene-wise standardised space.
        strata: classes of the rows of both sides. donors: the same; profiles without a donor each need a name.
        logistic_c: inverse of the L2 penalty, as in scikit-learn.
        classifiers: which of the two to train.
        pair: the two sides, where their distances are measured already.

    Returns:
        For each classifier the mean over folds of the AUC, a 95 % interval (variance within a fold after DeLong et
        al. 1988, doi:10.2307/2531595) and the one-sided p-value of a rank-sum test; both allow for the training
        profiles that folds share by the correction of Nadeau & Bengio (2003), doi:10.1023/A:1024068626366, and
        rather err to the wide side. With fewer than ``LEAST`` profiles a side all is NaN.

    Raises:
        ValueError: if the widths differ, or values are not finite.
    """
    if min(len(real), len(synthetic)) < LEAST:
        few = _undefined(f"{min(len(real), len(synthetic))} profiles, fewer than {LEAST}")
        return dict.fromkeys(classifiers, few)
    is_synthetic = np.repeat([0, 1], [len(real), len(synthetic)])
    squares = (pair or Pair.of(real, synthetic)).squares()
    together = _together(squares, len(real), strata, donors, seed)
    genes = real.shape[1]
    values = np.concatenate([real, synthetic]) if genes <= MAX_INPUTS else _components(squares)
    splits = list(_splits(is_synthetic, together, strata, folds, seed))
    found = {}
    for name in classifiers:
        if name == "boosted":
            found[name] = _cross_validated(_boosted(seed), _binned(values), is_synthetic, splits)
            continue
        # an L2 penalty does not see the basis: coordinates of few profiles are as good as their many genes
        inputs = _components(squares) if len(squares) < genes <= MAX_INPUTS else values
        found[name] = _cross_validated(_logistic(logistic_c), inputs, is_synthetic, splits)
    return found


def _together(squares: np.ndarray, n: int, strata: Known, donors: Known, seed: int) -> np.ndarray:
    """One number per row, real rows (the first n) first; rows that must not be split have the same."""
    rng, distances = np.random.default_rng(seed), np.sqrt(squares)
    apart = distances[:n, :n] + np.diag(np.full(n, np.inf, squares.dtype))
    typical = float(np.median(apart.min(axis=1)))
    is_real = np.arange(len(distances)) < n
    across = is_real[:, None] != is_real
    # copies across; within a side, only repeats of one profile: a collapsed side is no group
    near = distances <= np.where(across, NEAR, 1e-3) * typical
    pairs = [np.argwhere(near)]
    copied = (near & across).any(axis=1)
    owners = np.arange(len(distances))  # of each row, the first row of its donor
    for start, names in zip((0, n), donors or (), strict=False):
        _, first, codes = np.unique(names, return_index=True, return_inverse=True)
        owners[start : start + len(names)] = first[codes] + start
    pairs.append(np.stack([np.arange(len(distances)), owners], axis=1))
    # what has no copy is paired at random with the other side's, so that folds are balanced
    classes = np.zeros(len(distances)) if strata is None else np.concatenate(strata)
    paired = []
    for label in np.unique(classes):
        free = np.flatnonzero((classes == label) & ~copied)
        ours, theirs = rng.permutation(free[free < n]), rng.permutation(free[free >= n])
        size = min(len(ours), len(theirs))
        paired.append(np.stack([ours[:size], theirs[:size]], axis=1))
    # a donor of the second side once: pairs of all its profiles would tie everybody to everybody
    links = rng.permutation(np.concatenate(paired))
    pairs.append(links[np.unique(owners[links[:, 1]], return_index=True)[1]])
    i, j = np.concatenate(pairs).T
    graph = sparse.coo_array((np.ones(len(i), dtype=bool), (i, j)), shape=(len(distances), len(distances)))
    return sparse.csgraph.connected_components(graph, directed=False)[1]


def _components(squares: np.ndarray) -> np.ndarray:
    """Principal components of both sides together, from their squared distances (n, n)."""
    variances, vectors = axes_in_span(products(squares, squares), MAX_INPUTS)
    return (vectors * np.sqrt(variances)).astype(squares.dtype, copy=False)


def _binned(inputs: np.ndarray) -> np.ndarray:
    """Every input in ``BINS`` bins of equally many profiles, found once without the labels; equal values share one."""
    ranks = scipy.stats.rankdata(inputs, method="min", axis=0) - 1
    return (ranks * (BINS / len(inputs))).astype(np.uint8)


def _splits(
    labels: np.ndarray, groups: np.ndarray, strata: Known, folds: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Training and test rows of every fold in which both sides occur on both sides of the split."""
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(folds, len(np.unique(groups)))
    if folds < 2:
        return
    classes = labels if strata is None else np.concatenate(strata)
    if np.unique(classes, return_counts=True)[1].max() < folds:
        classes = labels
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # that a class has fewer profiles than there are folds
        warnings.simplefilter("ignore", UserWarning)
        splits = list(splitter.split(labels, classes, groups))
    for train, test in splits:
        if min(np.ptp(labels[train]), np.ptp(labels[test])):
            yield train, test


Fit = Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]


def _logistic(c: float) -> Fit:
    def fit(inputs: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=c, tol=1e-3, max_iter=1000).fit(inputs, labels).decision_function

    return fit


def _boosted(seed: int) -> Fit:
    """Few, small trees, each of a random ``SHARE`` of the genes: a thousand genes, a few hundred profiles, .1 s.

    With scikit-learn's trees, but a loop of our own: ``HistGradientBoostingClassifier`` counts all genes for every node
    and then leaves most of them out.
    """

    def fit(inputs: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        from sklearn.ensemble._hist_gradient_boosting.grower import TreeGrower

        rng, by_gene = np.random.default_rng(seed), np.ascontiguousarray(inputs.T)
        score, trees, size = np.zeros(len(labels)), [], int(np.ceil(SHARE * len(by_gene)))
        for _ in range(TREES):
            genes = rng.choice(len(by_gene), size, replace=False)
            expected = expit(score)
            gradients = (expected - labels).astype(np.float32), (expected * (1 - expected)).astype(np.float32)
            grower = TreeGrower(
                by_gene[genes].T,
                *gradients,
                max_leaf_nodes=6,
                min_samples_leaf=10,
                n_bins=BINS + 1,  # the last is for missing values
                shrinkage=0.1,
                n_threads=1,
            )
            grower.grow()
            trees.append((genes, grower.make_predictor(binning_thresholds=np.zeros((size, BINS)))))
            for leaf in grower.finalized_leaves:
                score[leaf.sample_indices] += leaf.value

        def decide(unseen: np.ndarray) -> np.ndarray:
            others = unseen.T
            return np.sum([tree.predict_binned(others[genes].T, BINS, 1) for genes, tree in trees], axis=0)

        return decide

    return fit


def _undefined(note: str) -> TwoSampleResult:
    return TwoSampleResult(np.nan, np.nan, np.nan, np.nan, note)


@one_thread_if_small
def _cross_validated(
    fit: Fit, inputs: np.ndarray, labels: np.ndarray, splits: list[tuple[np.ndarray, np.ndarray]]
) -> TwoSampleResult:
    if len(splits) < 2:
        return _undefined("too many profiles are copies of each other to be split into folds")
    areas, variances, null_variances = [], [], []
    for train, test in splits:
        scores = fit(inputs[train], labels[train])(inputs[test])
        area, variance = auc(scores, labels[test])
        positives = int(labels[test].sum())
        areas.append(area)
        variances.append(variance)
        null_variances.append((len(test) + 1) / (12 * positives * (len(test) - positives)))
    mean = float(np.mean(areas))
    # folds share training profiles: 1 / folds independent parts would be too many to count on (Nadeau & Bengio)
    share = 1 / len(splits) + np.mean([len(test) / len(train) for train, test in splits])
    half = 1.96 * np.sqrt(share * np.mean(variances))
    p = scipy.stats.norm.sf((mean - 0.5) / np.sqrt(share * np.mean(null_variances)))
    return TwoSampleResult(mean, max(0.0, mean - half), min(1.0, mean + half), float(p))
