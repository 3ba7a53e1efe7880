"""Every metric of one set of profiles in one space, as rows of a table: who is compared with whom, and how often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from transcriptome_diffusion.metrics.biology import differential, gene_sets, summarise
from transcriptome_diffusion.metrics.biology.coexpression import preservation_of
from transcriptome_diffusion.metrics.biology.findings import compare_findings
from transcriptome_diffusion.metrics.copying import authenticity, copied, spread_of
from transcriptome_diffusion.metrics.correlation import agreement as correlation_agreement
from transcriptome_diffusion.metrics.distances import (
    class_mean_r2_of,
    frechet,
    kernel_tests_of,
    marginal_agreement_of,
)
from transcriptome_diffusion.metrics.fidelity import (
    Memberships,
    fidelity_by_class,
    least_profiles,
    memberships_of,
    support_of,
)
from transcriptome_diffusion.metrics.fidelity import summarise as summarise_fidelity
from transcriptome_diffusion.metrics.neighbours import Pair, nearest
from transcriptome_diffusion.metrics.options import ContrastOptions, EvaluationOptions
from transcriptome_diffusion.metrics.privacy import privacy
from transcriptome_diffusion.metrics.profile_set import ProfileSet
from transcriptome_diffusion.metrics.reference import SpaceReference, sample
from transcriptome_diffusion.metrics.registry import require_registered, select
from transcriptome_diffusion.metrics.sides import Side
from transcriptome_diffusion.metrics.statistics import (
    Interval,
    bootstrap_mean,
    jackknife,
    matched_draws,
    share_interval,
)
from transcriptome_diffusion.metrics.two_sample import classifier_tests
from transcriptome_diffusion.metrics.utility import classification_scores, predict

#: of the rows that the functions here add
COLUMNS = ["reference", "metric", "label", "draw", "value", "n", "low", "high", "note"]
#: profiles of a tissue below which its accuracy is not given
LEAST_OF_TISSUE = 5

NEIGHBOURS = select("fidelity:fidelity")
DIFFERENTIAL = tuple(name for name in select("biology.differential:agreement") if not name.startswith("contrast_"))
MODULES = select("biology.coexpression:preservation")
CLASSIFICATION = select("utility:predict")
ONE_TISSUE = "one tissue: a classifier, and differences between tissues, need two"
UNBOUNDED = Interval(np.nan, np.nan, np.nan)


def compare(
    against_test: ProfileSet,
    against_train: ProfileSet,
    reference: SpaceReference,
    options: EvaluationOptions,
    space: str,
) -> pd.DataFrame:
    """Every metric of one set of profiles in one space (``landmarks`` or ``transcriptome``), but for privacy.

    For a generator the first two arguments are the same profiles. For the row ``real`` they are the training
    donors (scored against held-out ones) and the held-out donors (scored against train).

    - On ``options.draws`` matched subsets of the size of ``test``, against test and against train: ``fidelity``,
      correlation, spread, Fréchet distances; against test also within-class correlation, marginals, kernel
      distances, alpha-precision and beta-recall, preservation of modules. Neighbour metrics on fewer than
      ``fidelity.least_profiles`` are left empty. On landmarks, against test, also ``findings.compare_findings``.
    - On the first of these subsets: permutation p-values and classifier two-sample tests.
    - On all profiles, in the transcriptome on at most ``options.most_profiles``: copying and authenticity, towards
      all of train.
    - On all profiles: reverse validation (train on them, choose on validation, test on test; a draw is a classifier
      seed), on landmarks also on them beside real training profiles (``..._augmented``), differential expression,
      markers, gene sets.

    Of sets of more than ``reference.MOST`` profiles so many stand for all, except for differential expression, markers
    and gene sets; and of more genes, so many in the two correlations of pairs of genes and in the distributions of
    single genes.

    Returns:
        Single values with the columns ``COLUMNS``. ``label`` is empty for values over all tissues, else the tissue or
        contrast; ``n`` profiles on each side; ``low`` and ``high`` bound the mean over draws (95 %, bootstrap over
        held-out donors and synthetic profiles), NaN where no bound is given; ``note`` says why a value is missing.

    Raises:
        ValueError: if a tissue of the held-out donors was not generated, or has too few profiles to be compared.
    """
    table = Table()
    first = reference.place(against_test)
    second = first if against_train is against_test else reference.place(against_train)
    _add_draws(table, "test", reference.sides["test"], first, reference, options, space)
    _add_draws(table, "train", reference.sides["train"], second, reference, options, space)
    _add_reverse_validation(table, first, reference, options, space)
    _add_differential_expression(table, against_test, reference, options.contrast, space)
    _add_gene_sets(table, against_test, reference)
    _add_copying(table, second, reference, options, space)
    return table.frame()


def compare_records(synthetic: ProfileSet, members: ProfileSet, reference: SpaceReference, seed: int) -> pd.DataFrame:
    """Privacy: distances to closest records and membership attacks on the training profiles ``members``.

    Of sets of real profiles larger than ``reference.MOST`` so many stand for all, so that the cost grows with the
    number of synthetic profiles and not with its square.

    Returns:
        Rows as those of ``compare``, with the reference ``train``.
    """
    others, known = (reference.sampled[split] for split in ("test", "validation"))
    found = privacy(synthetic.values, synthetic.labels, sample(members), others, known, seed)
    table = Table()
    table.extend(found, "train")
    return table.frame()


class Table:
    """Rows of ``COLUMNS``, as they are found."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []

    def frame(self) -> pd.DataFrame:
        """All rows.

        Raises:
            ValueError: if a metric is not registered.
        """
        table = pd.DataFrame(self.rows, columns=COLUMNS).astype({"value": float, "low": float, "high": float})
        require_registered(table["metric"])
        return table

    def add(
        self,
        reference: str,
        found: Mapping[str, float],
        n: int,
        draw: int = 0,
        bounds: Mapping[str, Interval] | None = None,
        note: str = "",
    ) -> None:
        """Values over all tissues; a missing one gets the note."""
        for metric, value in found.items():
            bound = (bounds or {}).get(metric, UNBOUNDED)
            missing = "" if np.isfinite(value) else note or "undefined at this size"
            self.rows.append((reference, metric, "", draw, value, n, bound.low, bound.high, missing))

    def add_label(
        self, metric: str, label: str, value: float, n: int, note: str = "", bounds: Interval = UNBOUNDED
    ) -> None:
        """The value of one tissue or contrast against test."""
        self.rows.append(("test", metric, label, 0, value, n, bounds.low, bounds.high, note))

    def add_labels(self, table: pd.DataFrame, label: str, metrics: Sequence[str], prefix: str = "") -> None:
        """Columns ``metrics`` of a table that has a row per tissue, with ``n`` and ``note``."""
        for metric in metrics:
            missing = table["note"].where(table[metric].isna(), "")
            for row in zip(table[label], table[metric], table["n"], missing, strict=True):
                self.add_label(prefix + metric, *row)

    def extend(self, table: pd.DataFrame, reference: str) -> None:
        """Rows with ``metric``, ``value``, ``low``, ``high``, ``n``, ``note`` and, if they have one, ``label``."""
        columns = table.assign(reference=reference, label=table.get("label", ""), draw=0)[COLUMNS]
        self.rows += columns.itertuples(index=False, name=None)

    def bound(self, reference: str, bounds: Mapping[str, Interval]) -> None:
        """Give the draws that are there their bounds."""
        self.rows = [
            (*row[:6], bounds[row[1]].low, bounds[row[1]].high, row[8])
            if row[0] == reference and row[1] in bounds and not row[2]
            else row
            for row in self.rows
        ]


def _add_draws(
    table: Table,
    name: str,
    real: Side,
    candidate: Side,
    reference: SpaceReference,
    options: EvaluationOptions,
    space: str,
) -> None:
    k = getattr(options.neighbours, space)
    members: list[tuple[Memberships, np.ndarray, np.ndarray]] = []
    sizes = (options.draws, options.seed, options.most_profiles)
    draws = matched_draws(real.known.labels, candidate.known.labels, reference.test.labels, *sizes)
    for draw, rows in enumerate(draws):
        ours, theirs = real.take(rows[0]), candidate.take(rows[1])
        pair, strata = Pair(candidate.pool, ours.places, theirs.places), (ours.known.labels, theirs.known.labels)
        n, one = len(strata[0]), ONE_TISSUE if len(np.unique(strata[0])) < 2 else ""
        if n >= (needed := least_profiles(k)):
            members.append((memberships_of(*pair.bounds(), k), ours.known.donors, theirs.known.donors))
            table.add(name, summarise_fidelity(members[-1][0], k), n, draw)
        elif not draw:
            note = f"{n} profiles a side, fewer than {needed}: {k} neighbours say nothing there"
            table.add(name, dict.fromkeys(NEIGHBOURS, np.nan), n, note=note)
        features = ours.known.features, theirs.known.features
        found = {
            "correlation": correlation_agreement(ours.correlations, theirs.correlations),
            "spread": spread_of(ours.scatter, theirs.scatter),
            "frechet_pca": frechet(ours.known.coordinates, theirs.known.coordinates),
            "frechet_classifier": np.nan if features[0] is None else frechet(*features),
        }
        table.add(name, found, n, draw, note=one)
        if name == "train":
            continue
        tests = kernel_tests_of(pair, strata, permutations=99 if draw else 999, seed=options.seed)
        found = {
            "within_class_correlation": correlation_agreement(ours.within, theirs.within),
            **marginal_agreement_of(ours.margins, theirs.margins),
            "class_mean_r2": class_mean_r2_of(pair, strata),
            **support_of(pair),
            "mmd": tests["mmd"],
            "energy": tests["energy"],
        }
        if reference.modules is not None:
            kept = preservation_of(reference.modules, theirs.of_modules, permutations=0)
            found |= summarise(kept[list(MODULES)])
        table.add(name, found, n, draw, note=one)
        if space == "landmarks":
            whole = n == len(reference.test.labels)
            findings = reference.test_findings if whole else reference.findings_of(ours.values, strata[0])
            found = compare_findings(findings, reference.findings_of(theirs.values, strata[1]))
            table.add(name, found, n, draw, note=one or "too few profiles, edges or significant genes")
        if not draw:
            table.add(name, {"mmd_p": tests["mmd_p"], "energy_p": tests["energy_p"]}, n)
            first, second = (part.known._replace(values=part.values) for part in (ours, theirs))
            add_classifier_tests(table, first, second, options, pair=pair)
            by_class = fidelity_by_class(ours.values, strata[0], theirs.values, strata[1], k)
            table.add_labels(by_class, "label", ("precision", "recall"))
    if members:
        table.bound(name, _bounds(members, k))


def _bounds(members: Sequence[tuple[Memberships, np.ndarray, np.ndarray]], k: int) -> dict[str, Interval]:
    """Intervals of the neighbour metrics; a profile of several draws, and a donor's profiles, are one unit."""
    ours, theirs = (np.concatenate([part[i] for part in members]) for i in (1, 2))
    together = {name: np.concatenate([getattr(part[0], name) for part in members]) for name in Memberships._fields}
    sides = {
        "precision": [(together["balls_around"] > 0, theirs)],
        "recall": [(together["recalled"], ours)],
        "density": [(together["balls_around"] / k, theirs)],
        "coverage": [(together["covered"], ours)],
        "adversarial_accuracy": [(together["real_apart"], ours), (together["synthetic_apart"], theirs)],
        "adversarial_accuracy_real": [(together["real_apart"], ours)],
        "adversarial_accuracy_synthetic": [(together["synthetic_apart"], theirs)],
    }
    return {name: bootstrap_mean([(v.astype(np.float64), u) for v, u in side]) for name, side in sides.items()}


def add_classifier_tests(
    table: Table,
    ours: ProfileSet,
    theirs: ProfileSet,
    options: EvaluationOptions,
    classifiers: Sequence[str] = ("logistic", "boosted"),
    pair: Pair | None = None,
) -> None:
    """Add ``two_sample_{classifier}`` and its p-value; ``pair`` as ``classifier_tests`` takes it."""
    results = classifier_tests(
        ours.values,
        theirs.values,
        strata=(ours.labels, theirs.labels),
        donors=(ours.donors, theirs.donors),
        folds=options.folds,
        seed=options.seed,
        classifiers=classifiers,
        pair=pair,
    )
    for name, found in results.items():
        metric = f"two_sample_{name}"
        bounds = {metric: Interval(found.auc, found.low, found.high)}
        table.add("test", {metric: found.auc, f"{metric}_p": found.p}, len(ours.labels), bounds=bounds, note=found.note)


# -------------------------------------------------------------------------------- use as training data
Predictions = tuple[np.ndarray, dict[str, list[np.ndarray]]]


def _add_reverse_validation(
    table: Table,
    candidate: Side,
    reference: SpaceReference,
    options: EvaluationOptions,
    space: str,
) -> None:
    chosen = options.transcriptome_classifier if space == "transcriptome" else None
    classifier, train = chosen or options.classifier, candidate.whole
    validation, test = reference.sampled["validation"], reference.sampled["test"]
    if min(len(np.unique(part.labels)) for part in (train, test)) < 2:
        metrics = [m for m in CLASSIFICATION if space == "landmarks" or not m.endswith("_augmented")]
        table.add("test", dict.fromkeys(metrics, np.nan), len(test.labels), note=ONE_TISSUE)
        return
    places = candidate.places, *(reference.sides[split].places for split in ("validation", "test"))
    squares = [candidate.pool.squares[np.ix_(part, candidate.places)] for part in places]
    predicted = predict(train, validation, test, classifier, squares)
    found = _classification(predicted, test)
    _add_classification(table, found, len(test.labels))
    if space == "landmarks":
        # the row `real` is train-on-real already
        if candidate is not reference.sides["train"]:
            real = reference.sampled["train"]
            both = ProfileSet(*map(np.concatenate, zip(real[:2], train[:2], strict=True)))
            found = _classification(predict(both, validation, test, classifier), test)
        _add_classification(table, found, len(test.labels), "_augmented")
    right = _right(predicted[1]["mlp"], predicted[0], test.labels)
    for label in np.unique(test.labels):
        of = test.labels == label
        n = int(of.sum())
        if n < LEAST_OF_TISSUE:
            table.add_label("accuracy_mlp", label, np.nan, n, f"{n} profiles, fewer than {LEAST_OF_TISSUE}")
        else:
            bounds = bootstrap_mean([(right[of], test.donors[of])])
            table.add_label("accuracy_mlp", label, bounds.value, n, "", bounds)


def _add_classification(
    table: Table, found: Mapping[str, tuple[list[float], Interval]], n: int, suffix: str = ""
) -> None:
    for metric, (values, bounds) in found.items():
        for draw, value in enumerate(values):
            table.add("test", {metric + suffix: value}, n, draw, {metric + suffix: bounds})


def _right(runs: Sequence[np.ndarray], classes: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Share of runs that name each profile's class, (n,)."""
    return np.mean([classes[found.argmax(axis=1)] == expected for found in runs], axis=0)


def _classification(predicted: Predictions, test: ProfileSet) -> dict[str, tuple[list[float], Interval]]:
    """Every run's value of every score of every classifier, and the interval of the mean over runs."""
    classes, by_classifier = predicted
    found: dict[str, tuple[list[float], Interval]] = {}
    for classifier, runs in by_classifier.items():
        right = _right(runs, classes, test.labels)
        bounds = {
            "accuracy": bootstrap_mean([(right, test.donors)]),
            "balanced_accuracy": bootstrap_mean([(right, test.donors)], classes=test.labels),
        }
        scores = [classification_scores(run, classes, test.labels) for run in runs]
        for metric in scores[0]:
            found[f"{metric}_{classifier}"] = ([run[metric] for run in scores], bounds.get(metric, UNBOUNDED))
    return found


# ----------------------------------------------------------------------------------------------- biology
def errors_of_biology(candidate: ProfileSet, reference: SpaceReference, options: EvaluationOptions) -> dict[str, float]:
    """Standard errors over donors of what is computed once on all profiles: differences and gene sets."""

    def again(test: np.ndarray, rows: np.ndarray) -> dict[str, float]:
        table, left = Table(), replace(reference, test=reference.test.take(test))
        _add_differential_expression(table, candidate.take(rows), left, options.contrast, "landmarks")
        _add_gene_sets(table, candidate.take(rows), left)
        found = table.frame().query("label == ''")
        return dict(zip(found["metric"], found["value"], strict=True))

    return jackknife(again, [(side.donors, side.labels) for side in (reference.test, candidate)], seed=options.seed)


def _add_differential_expression(
    table: Table, candidate: ProfileSet, reference: SpaceReference, contrast: ContrastOptions | None, space: str
) -> None:
    n = len(reference.test.labels)
    ours, theirs = reference.test_groups, reference.groups_of(candidate, candidate.labels)
    try:
        contrasts = differential.one_against_others(ours, theirs)
    except ValueError as error:  # too few profiles a tissue
        table.add("test", dict.fromkeys(DIFFERENTIAL, np.nan), n, note=str(error))
    else:
        _add_differences(table, "", ours, theirs, contrasts, n)
        if space == "transcriptome":
            markers = differential.marker_recovery(ours, theirs)
            table.add("test", summarise(markers), n, note="too few significant markers")
            sizes = [ours.size(group) for group in markers["group"]]
            table.add_labels(markers.assign(n=sizes), "group", ["markers_recovered"])
    if contrast is not None:
        _add_contrast(table, candidate, reference, contrast)


def _add_contrast(table: Table, candidate: ProfileSet, reference: SpaceReference, contrast: ContrastOptions) -> None:
    """Differences between two conditions within tissues, such as tumour against normal, where both are there."""
    ours, n = reference.test_condition_groups, len(reference.test.labels)
    if ours is None or not differential.within(contrast.first, contrast.second, ours):
        return
    if candidate.conditions is None:
        note = f"these profiles have no {contrast.column}: add it to the generator's `conditions`"
        table.add("test", {f"contrast_{metric}": np.nan for metric in DIFFERENTIAL}, n, note=note)
        return
    theirs = reference.groups_of(candidate, differential.joint_labels(candidate.labels, candidate.conditions))
    if contrasts := differential.within(contrast.first, contrast.second, ours, theirs):
        _add_differences(table, "contrast_", ours, theirs, contrasts, n)


def _add_differences(
    table: Table,
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
    table.add_labels(agreement.assign(n=sizes), "contrast", DIFFERENTIAL, prefix)


def _add_gene_sets(table: Table, candidate: ProfileSet, reference: SpaceReference) -> None:
    if not reference.gene_sets:
        return
    agreement = gene_sets.gene_set_agreement(
        reference.test_gene_set_scores,
        reference.test.labels,
        gene_sets.score_gene_sets(candidate.values, reference.gene_sets),
        candidate.labels,
        list(reference.gene_sets),
    )
    table.add("test", summarise(agreement), len(reference.test.labels), note="too few classes")


# ----------------------------------------------------------------------------------------------- copies
def _add_copying(
    table: Table,
    side: Side,
    reference: SpaceReference,
    options: EvaluationOptions,
    space: str,
) -> None:
    most = None if space == "landmarks" else options.most_profiles
    candidate, held_out = side.whole, reference.sampled["test"]
    test, some = (_thinned(len(part.labels), most, options.seed) for part in (held_out, candidate))
    usual = reference.test_distances[test]
    if candidate is held_out:
        distances, closest = usual, reference.test_nearest[test]
    elif reference.sampled["train"] is reference.train:
        squares = side.pool.squares[np.ix_(side.places[some], reference.sides["train"].places)]
        closest = squares.argmin(axis=1)
        distances = np.sqrt(squares[np.arange(len(closest)), closest])
    else:
        distances, closest = nearest(candidate.values[some], reference.train.values)
    found = {
        "authenticity": authenticity(distances, reference.apart(closest)),
        "copying": copied(distances, usual),
    }
    units = len(np.unique(candidate.donors[some]))
    bounds = {name: share_interval(share, units) for name, share in found.items()}
    table.add("train", found, len(distances), bounds=bounds)


def _thinned(n: int, most: int | None, seed: int) -> np.ndarray | slice:
    """All rows, or a random ``most`` of them."""
    if most is None or n <= most:
        return slice(n)
    return np.random.default_rng(seed).choice(n, most, replace=False)
