"""All indicators of one row of the scorecard, on matched sample sizes, as tables of single values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from transcriptome_diffusion.metrics.biology import differential, gene_sets, summarise
from transcriptome_diffusion.metrics.biology.coexpression import preservation
from transcriptome_diffusion.metrics.copying import authenticity, copied, spread
from transcriptome_diffusion.metrics.correlation import correlation_score, within_class_correlation
from transcriptome_diffusion.metrics.distances import frechet, kernel_tests, marginal_agreement
from transcriptome_diffusion.metrics.fidelity import (
    Memberships,
    fidelity_by_class,
    least_profiles,
    memberships,
    support,
)
from transcriptome_diffusion.metrics.fidelity import summarise as summarise_fidelity
from transcriptome_diffusion.metrics.intervals import Interval, bootstrap, bootstrap_mean
from transcriptome_diffusion.metrics.neighbours import nearest, nearest_distances
from transcriptome_diffusion.metrics.options import ClassifierOptions, ContrastOptions, EvaluationOptions
from transcriptome_diffusion.metrics.profile_set import ProfileSet
from transcriptome_diffusion.metrics.two_sample import classifier_tests
from transcriptome_diffusion.metrics.utility import classification_scores, predict
from transcriptome_diffusion.metrics.yardsticks import Yardsticks

#: of the tables that ``score`` makes
COLUMNS = ["reference", "metric", "draw", "value", "n", "low", "high", "note"]
TISSUE_COLUMNS = ["metric", "label", "value", "low", "high", "n", "note"]

#: indicators of ``fidelity``, which a handful of profiles say nothing about
NEIGHBOURS = ("precision", "recall", "f1", "density", "coverage", "adversarial_accuracy")
#: profiles of a tissue below which its accuracy is not given
LEAST_OF_TISSUE = 5


@dataclass(frozen=True, eq=False)
class Real:
    """The real side of all rows of one space.

    Attributes:
        train, validation, test: real profiles of different donors.
        yardsticks: fitted on the first two.
        sets: columns of the genes of each gene set; empty where the user supplies none.
    """

    train: ProfileSet
    validation: ProfileSet
    test: ProfileSet
    yardsticks: Yardsticks
    sets: Mapping[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def groups(self) -> differential.Groups:
        return self.groups_of(self.test, self.test.labels)

    def groups_of(self, row: ProfileSet, labels: np.ndarray) -> differential.Groups:
        """Group means and variances in the log unit."""
        return differential.Groups.of(row.values, labels).rescaled(self.yardsticks.scaler.scale)


#: what ``differential.agreement`` compares
DIFFERENTIAL = ("lfc_slope", "lfc_correlation", "effect_size_slope", "sign_agreement", "top_overlap")


def matched(
    first: ProfileSet, second: ProfileSet, size_of: ProfileSet, draws: int, seed: int, most: int | None = None
) -> Iterator[tuple[ProfileSet, ProfileSet]]:
    """Random subsets of two sets with equal size and equal label composition.

    Nearest-neighbour indicators depend on the sample size and on the mixture of tissues, so both sides get,
    label by label, as many profiles as ``size_of`` has, or as many as the scarcer side can give. Where ``size_of``
    has more than ``most`` profiles, every label gives its share of ``most``.

    Raises:
        ValueError: if one side lacks a label of ``size_of`` altogether.
    """
    labels, counts = np.unique(size_of.labels, return_counts=True)
    for side in (first, second):
        if missing := sorted(set(labels.tolist()) - set(side.labels.tolist())):
            raise ValueError(f"no profiles with the label {missing}; every tissue has to be generated.")
    if most is not None and counts.sum() > most:
        counts = np.maximum(counts * most // counts.sum(), 1)
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw])
        chosen: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for label, count in zip(labels, counts, strict=True):
            rows = [np.flatnonzero(side.labels == label) for side in (first, second)]
            size = min(count, *map(len, rows))
            for taken, available in zip(chosen, rows, strict=True):
                taken.append(rng.choice(available, size, replace=False))
        yield first.take(np.concatenate(chosen[0])), second.take(np.concatenate(chosen[1]))


def score(
    against_test: ProfileSet, against_train: ProfileSet, real: Real, options: EvaluationOptions, space: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every indicator of one row, in one space (``landmarks`` or ``transcriptome``).

    For a generator the first two arguments are the same profiles. For the row ``real`` they are the training
    donors (scored against held-out ones) and the held-out donors (scored against train).

    - On ``options.draws`` matched subsets of the size of ``test``, against test and against train: ``fidelity``,
      correlation, spread, Fréchet distances; against test also within-class correlation, marginals, kernel
      distances, alpha-precision and beta-recall, preservation of modules. Neighbour indicators on fewer than
      ``fidelity.least_profiles`` are left empty.
    - On the first of these subsets: permutation p-values and classifier two-sample tests.
    - On all profiles, in the transcriptome on at most ``options.most_profiles``: copying and authenticity, towards
      train.
    - On all profiles: reverse validation (train on the row, choose on validation, test on test; a draw is a classifier
      seed), on landmarks also on the row beside real training profiles (``..._augmented``), differential expression,
      markers, gene sets.

    Returns:
        Single values with the columns ``COLUMNS``: ``n`` profiles on each side; ``low`` and ``high`` bound the mean
        over draws (95 %, bootstrap over held-out donors and synthetic profiles), NaN where no bound is given;
        ``note`` says why a value is missing. And values of single tissues (or contrasts) against test, with the
        columns ``TISSUE_COLUMNS``.
    """
    table, tissues = _Table(), _Tissues()
    for reference, ours, theirs in (("test", real.test, against_test), ("train", real.train, against_train)):
        _add_draws(table, tissues, reference, ours, theirs, real, options, space)
    _add_reverse_validation(table, tissues, against_test, real, options, space)
    _add_biology(table, tissues, against_test, real, options, space)
    _add_copying(table, against_train, real, options, space)
    return pd.DataFrame(table.rows, columns=COLUMNS), pd.DataFrame(tissues.rows, columns=TISSUE_COLUMNS)


def _add_copying(table: _Table, candidate: ProfileSet, real: Real, options: EvaluationOptions, space: str) -> None:
    most = None if space == "landmarks" else options.most_profiles
    some, others = (_thinned(part.values, most, options.seed) for part in (candidate, real.test))
    to_train, original = nearest(some, real.train.values)
    usual = to_train if candidate is real.test else nearest_distances(others, real.train.values)
    found = {
        "copying": copied(to_train, usual),
        "authenticity": authenticity(to_train, original, real.yardsticks.apart),
    }
    table.add("train", found, len(some))


def _thinned(values: np.ndarray, most: int | None, seed: int) -> np.ndarray:
    """All profiles, or a random ``most`` of them."""
    n = len(values)
    return values if most is None or n <= most else values[np.random.default_rng(seed).choice(n, most, replace=False)]


class _Table:
    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []

    def add(
        self,
        reference: str,
        found: Mapping[str, float],
        n: int,
        draw: int = 0,
        bounds: Mapping[str, Interval] | None = None,
        note: str = "",
    ) -> None:
        for metric, value in found.items():
            low, high = (bounds[metric].low, bounds[metric].high) if bounds and metric in bounds else (np.nan, np.nan)
            missing = "" if np.isfinite(value) else note or "undefined at this size"
            self.rows.append((reference, metric, draw, value, n, low, high, missing))

    def bound(self, reference: str, bounds: Mapping[str, Interval]) -> None:
        """Give the draws that are there their bounds."""
        self.rows = [
            (*row[:5], bounds[row[1]].low, bounds[row[1]].high, row[7])
            if row[0] == reference and row[1] in bounds
            else row
            for row in self.rows
        ]


class _Tissues:
    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []

    def add(
        self, metric: str, label: str, value: float, n: int, note: str = "", bounds: Interval | None = None
    ) -> None:
        low, high = (bounds.low, bounds.high) if bounds else (np.nan, np.nan)
        self.rows.append((metric, label, value, low, high, n, note))

    def extend(self, table: pd.DataFrame, label: str, metrics: Sequence[str], prefix: str = "") -> None:
        """Columns of a table that has a row per tissue, with ``n`` and ``note``."""
        for metric in metrics:
            missing = table["note"].where(table[metric].isna(), "")
            for row in zip(table[label], table[metric], table["n"], missing, strict=True):
                self.add(prefix + metric, *row)


def _add_draws(
    table: _Table,
    tissues: _Tissues,
    reference: str,
    real: ProfileSet,
    candidate: ProfileSet,
    known: Real,
    options: EvaluationOptions,
    space: str,
) -> None:
    k, yardsticks = getattr(options.neighbours, space), known.yardsticks
    members: list[tuple[Memberships, np.ndarray, np.ndarray]] = []
    draws = matched(real, candidate, known.test, options.draws, options.seed, options.most_profiles)
    for draw, (ours, theirs) in enumerate(draws):
        pair, labelled = (ours.values, theirs.values), (ours.values, ours.labels, theirs.values, theirs.labels)
        n = len(ours.labels)
        if n >= (needed := least_profiles(k)):
            members.append((memberships(*pair, k), ours.donors, theirs.donors))
            table.add(reference, summarise_fidelity(members[-1][0], k), n, draw)
        elif not draw:
            note = f"{n} profiles a side, fewer than {needed}: {k} neighbours say nothing there"
            table.add(reference, dict.fromkeys(NEIGHBOURS, np.nan), n, note=note)
        found = {
            "correlation": correlation_score(*pair),
            "spread": spread(*labelled),
            "frechet_pca": frechet(ours.coordinates, theirs.coordinates),
            "frechet_classifier": frechet(ours.features, theirs.features),
        }
        table.add(reference, found, n, draw)
        if reference == "train":
            continue
        alike = support(*pair)
        tests = kernel_tests(
            *pair, strata=(ours.labels, theirs.labels), permutations=99 if draw else 999, seed=options.seed
        )
        found = {
            "within_class_correlation": within_class_correlation(*labelled),
            **marginal_agreement(*labelled),
            "alpha_precision": alike["alpha_precision"],
            "beta_recall": alike["beta_recall"],
            "mmd": tests["mmd"],
            "energy": tests["energy"],
        }
        if yardsticks.modules is not None:
            kept = preservation(yardsticks.modules, theirs.values, theirs.labels, permutations=0)
            found |= summarise(kept[["module_density", "module_connectivity", "module_correlation"]])
        table.add(reference, found, n, draw)
        if not draw:
            table.add(reference, {"mmd_p": tests["mmd_p"], "energy_p": tests["energy_p"]}, n)
            _add_classifier_tests(table, ours, theirs, options)
            tissues.extend(fidelity_by_class(*labelled, k), "label", ("precision", "recall"))
    if members:
        table.bound(reference, _bounds(members, k))


def _bounds(members: Sequence[tuple[Memberships, np.ndarray, np.ndarray]], k: int) -> dict[str, Interval]:
    """Intervals of the neighbour indicators; a profile of several draws, and a donor's profiles, are one unit."""
    ours, theirs = (np.concatenate([part[i] for part in members]) for i in (1, 2))
    together = {name: np.concatenate([getattr(part[0], name) for part in members]) for name in Memberships._fields}
    sides = {
        "precision": [(together["balls_around"] > 0, theirs)],
        "recall": [(together["recalled"], ours)],
        "density": [(together["balls_around"] / k, theirs)],
        "coverage": [(together["covered"], ours)],
        "adversarial_accuracy": [(together["real_apart"], ours), (together["synthetic_apart"], theirs)],
    }
    return {name: bootstrap_mean([(v.astype(np.float64), u) for v, u in side]) for name, side in sides.items()}


def _add_classifier_tests(table: _Table, ours: ProfileSet, theirs: ProfileSet, options: EvaluationOptions) -> None:
    told = classifier_tests(
        ours.values,
        theirs.values,
        strata=(ours.labels, theirs.labels),
        donors=(ours.donors, theirs.donors),
        folds=options.folds,
        seed=options.seed,
    )
    for name, found in told.items():
        metric = f"two_sample_{name}"
        bounds = {metric: Interval(found.auc, found.low, found.high)}
        table.add("test", {metric: found.auc, f"{metric}_p": found.p}, len(ours.labels), bounds=bounds, note=found.note)


def _add_reverse_validation(
    table: _Table, tissues: _Tissues, candidate: ProfileSet, real: Real, options: EvaluationOptions, space: str
) -> None:
    chosen = options.transcriptome_classifier if space == "transcriptome" else None
    classifier = chosen or options.classifier
    rows = _reverse_validation(candidate, real, classifier)
    found = _scores(rows, real.test)
    _add_scores(table, found, len(real.test.labels))
    if space == "landmarks":
        # the row `real` is train-on-real already
        if candidate is not real.train:
            sides = zip(real.train[:2], candidate[:2], strict=True)
            both = ProfileSet(*map(np.concatenate, sides))
            found = _scores(_reverse_validation(both, real, classifier), real.test)
        _add_scores(table, found, len(real.test.labels), "_augmented")
    right = _right(rows[1]["mlp"], rows[0], real.test.labels)
    for label in np.unique(real.test.labels):
        of = real.test.labels == label
        n = int(of.sum())
        if n < LEAST_OF_TISSUE:
            tissues.add("accuracy_mlp", label, np.nan, n, f"{n} profiles, fewer than {LEAST_OF_TISSUE}")
        else:
            bounds = bootstrap_mean([(right[of], real.test.donors[of])])
            tissues.add("accuracy_mlp", label, bounds.value, n, "", bounds)


def _add_scores(table: _Table, found: Mapping[str, tuple[list[float], Interval]], n: int, suffix: str = "") -> None:
    for metric, (values, bounds) in found.items():
        for draw, value in enumerate(values):
            table.add("test", {metric + suffix: value}, n, draw, {metric + suffix: bounds})


Predictions = tuple[np.ndarray, dict[str, list[np.ndarray]]]


def _reverse_validation(train: ProfileSet, real: Real, classifier: ClassifierOptions) -> Predictions:
    return predict(train, real.validation, real.test, classifier)


def _right(runs: Sequence[np.ndarray], classes: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Share of runs that name each profile's class, (n,)."""
    return np.mean([classes[found.argmax(axis=1)] == expected for found in runs], axis=0)


def _scores(predicted: Predictions, test: ProfileSet) -> dict[str, tuple[list[float], Interval]]:
    """Every run's value of every score of every classifier, and the interval of the mean over runs."""
    classes, by_classifier = predicted
    _, codes = np.unique(test.labels, return_inverse=True)
    found: dict[str, tuple[list[float], Interval]] = {}
    for classifier, runs in by_classifier.items():
        right = _right(runs, classes, test.labels)

        def balanced(rows: np.ndarray, right: np.ndarray = right) -> float:
            counts = np.bincount(codes[rows])
            return float((np.bincount(codes[rows], right[rows]) / counts.clip(min=1))[counts > 0].mean())

        bounds = {
            "accuracy": bootstrap_mean([(right, test.donors)]),
            "balanced_accuracy": bootstrap(balanced, len(right), test.donors),
        }
        scores = [classification_scores(run, classes, test.labels) for run in runs]
        for metric in scores[0]:
            none = Interval(np.nan, np.nan, np.nan)
            found[f"{metric}_{classifier}"] = ([run[metric] for run in scores], bounds.get(metric, none))
    return found


def _add_biology(
    table: _Table, tissues: _Tissues, candidate: ProfileSet, real: Real, options: EvaluationOptions, space: str
) -> None:
    n = len(real.test.labels)
    groups = real.groups_of(candidate, candidate.labels)
    try:
        contrasts = differential.one_against_others(real.groups, groups)
    except ValueError as error:  # too few profiles a tissue
        table.add("test", dict.fromkeys(DIFFERENTIAL, np.nan), n, note=str(error))
    else:
        _add_differences(table, tissues, "", real.groups, groups, contrasts, n)
        if space == "transcriptome":
            markers = differential.marker_recovery(real.groups, groups)
            table.add("test", summarise(markers), n, note="too few significant markers")
            sizes = [real.groups.size(group) for group in markers["group"]]
            tissues.extend(markers.assign(n=sizes), "group", ["markers_recovered"])
    if options.contrast is not None:
        _add_contrast(table, tissues, candidate, real, options.contrast)
    if real.sets:
        scores = [gene_sets.score_gene_sets(part.values, real.sets) for part in (real.test, candidate)]
        agreement = gene_sets.gene_set_agreement(
            scores[0], real.test.labels, scores[1], candidate.labels, list(real.sets)
        )
        table.add("test", summarise(agreement), n, note="too few classes")


def _add_differences(
    table: _Table,
    tissues: _Tissues,
    prefix: str,
    ours: differential.Groups,
    theirs: differential.Groups,
    contrasts: Mapping[str, Mapping[str, float]],
    n: int,
) -> None:
    agreement = differential.agreement(
        differential.differential_expression(ours, contrasts), differential.differential_expression(theirs, contrasts)
    )
    table.add("test", summarise(agreement, prefix), n, note="; ".join(sorted(set(agreement["note"]) - {""})))
    sizes = [ours.size(contrast) or n for contrast in agreement["contrast"]]
    tissues.extend(agreement.assign(n=sizes), "contrast", DIFFERENTIAL, prefix)


def _add_contrast(
    table: _Table, tissues: _Tissues, candidate: ProfileSet, real: Real, contrast: ContrastOptions
) -> None:
    """Differences between two conditions within tissues, such as tumour against normal, where both are there."""
    if real.test.conditions is None:
        return
    ours = real.groups_of(real.test, differential.joint_labels(real.test.labels, real.test.conditions))
    n = len(real.test.labels)
    if not differential.within(contrast.first, contrast.second, ours):
        return
    if candidate.conditions is None:
        note = f"these profiles have no {contrast.column}: add it to the generator's `conditions`"
        table.add("test", {f"contrast_{metric}": np.nan for metric in DIFFERENTIAL}, n, note=note)
        return
    theirs = real.groups_of(candidate, differential.joint_labels(candidate.labels, candidate.conditions))
    contrasts = differential.within(contrast.first, contrast.second, ours, theirs)
    if contrasts:
        _add_differences(table, tissues, "contrast_", ours, theirs, contrasts, n)
