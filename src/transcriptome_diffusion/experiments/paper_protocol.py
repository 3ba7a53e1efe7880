"""The indicators of Lacan et al. (2026) as their code takes them: against training profiles, on linear values.

doi:10.1186/s12859-026-06470-8. These are beside the scorecard and never mixed with it: a generator that copies its
training profiles wins here. ``docs/paper.md`` compares both protocols.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from typing import Any, Literal

import anndata as ad
import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import train_test_split
from torch import nn

from transcriptome_diffusion.expression.profiles import dense, make_profiles
from transcriptome_diffusion.expression.scaling import GeneScaler
from transcriptome_diffusion.expression.units import linear_unit
from transcriptome_diffusion.generators.base import Generator, join
from transcriptome_diffusion.generators.options import SamplingOptions
from transcriptome_diffusion.metrics.correlation import correlation_score
from transcriptome_diffusion.metrics.distances import frechet
from transcriptome_diffusion.metrics.fidelity import fidelity
from transcriptome_diffusion.metrics.options import PaperClassifierOptions, PaperProtocolOptions
from transcriptome_diffusion.metrics.paper_classifier import accuracy, features, train_classifier
from transcriptome_diffusion.reconstruction.base import Reconstructor
from transcriptome_diffusion.reconstruction.registry import fit_reconstructor

logger = logging.getLogger(__name__)

COLUMNS = [
    *("generator", "space", "reconstructor", "scaling", "steps", "reference", "protocol", "metric"),
    *("mean", "sd", "runs", "n"),
]
#: of the profiles that a classifier or a reconstruction is trained with, those that it stops on
HELD_OUT_SHARE = 0.2
#: the metrics that real profiles of the test part are needed for; all others compare with the training part
AGAINST_TEST = ("accuracy", "mae_standardised")
#: how the space of a generator is scaled, by the paper's code
Kind = Literal["max_abs", "standard"]


@dataclass(frozen=True, eq=False)
class PaperSpace:
    """Linear values scaled by training profiles: the space that a generator's indicators are taken in.

    Attributes:
        kind: ``max_abs`` (diffusion) or ``standard`` (VAE, WGAN-GP and generators of other scalings).
        centre, width: of every gene, (n_genes,).
    """

    kind: Kind
    centre: np.ndarray
    width: np.ndarray

    @classmethod
    def fit(cls, linear: np.ndarray, kind: Kind) -> PaperSpace:
        """From linear training values (n, n_genes); genes without variation keep their unit."""
        if kind == "standard":
            scaler = GeneScaler.fit(linear)
            return cls(kind, scaler.mean, scaler.scale)
        width = np.abs(linear).max(axis=0)
        return cls(kind, np.zeros_like(width), np.where(width > 0, width, np.float32(1)))

    def __call__(self, linear: np.ndarray) -> np.ndarray:
        """Scaled values, (n, n_genes)."""
        return (linear - self.centre) / self.width


def to_linear(values: np.ndarray) -> np.ndarray:
    """Linear values (n, n_genes) under log2(x + 1), and under -log2(1 - x) for negative ones."""
    return np.copysign(np.exp2(np.abs(values)) - 1, values).astype(np.float32)


def kind_of(model: Generator) -> Kind:
    """The space of a generator's indicators: that of its own scaling where the paper has it."""
    return "max_abs" if model.settings.get("scaling", "") == "linear_max_abs" else "standard"


@dataclass(frozen=True, eq=False)
class RealProfiles:
    """The real side of the protocol; ``train`` and ``validation`` together are the paper's training file.

    Attributes:
        obs: the sample table of the training file.
        linear, codes: its values (n, n_genes) and classes (n,).
        test, test_codes: those of the test part; an unknown class is -1, which is never predicted.
        classes: number of classes.
    """

    obs: pd.DataFrame
    linear: np.ndarray
    codes: np.ndarray
    test: np.ndarray
    test_codes: np.ndarray
    classes: int

    @classmethod
    def of(cls, train: ad.AnnData, validation: ad.AnnData, test: ad.AnnData, label: str) -> RealProfiles:
        """From profiles (n, n_genes) in log2(x + 1).

        Raises:
            ValueError: if the unit is no log2(x + 1), which linear values could be taken from.
        """
        _linear_unit(train)
        both = join(train, validation)
        known = np.unique(_labels(both, label))
        codes, test_codes = (
            pd.Categorical(_labels(part, label), categories=known).codes.astype(np.int64) for part in (both, test)
        )
        return cls(both.obs, to_linear(dense(both)), codes, to_linear(dense(test)), test_codes, len(known))

    def standard(self) -> PaperSpace:
        """Standardised by the training file."""
        return PaperSpace.fit(self.linear, "standard")


@dataclass(frozen=True, eq=False)
class Transcriptomes:
    """What the protocol needs on all genes.

    Attributes:
        real: all genes of the real profiles.
        reconstructors: by name, functions that load those of ``fit_reconstructors``.
        direct: a model of all genes, where the generator has one.
    """

    real: RealProfiles
    reconstructors: Mapping[str, Callable[[], Reconstructor]]
    direct: Generator | None = None


def fit_reconstructors(
    landmarks: tuple[ad.AnnData, ad.AnnData],
    expression: tuple[ad.AnnData, ad.AnnData],
    blocks: Mapping[str, Any],
    options: PaperProtocolOptions,
) -> dict[str, Callable[[], Reconstructor]]:
    """The paper's reconstructions, which take and give linear values; each is fitted when it is called.

    They are fitted to four fifths of the training file, drawn by tissue, and stop on the last fifth.

    Args:
        landmarks, expression: training and validation profiles in log2(x + 1).
        blocks: by the name of the reconstructor, its options.

    Raises:
        ValueError: if the unit is no log2(x + 1).
    """
    unit = _linear_unit(expression[0])
    joined = [join(*parts) for parts in (landmarks, expression)]
    linear = [make_profiles(to_linear(dense(part)), part.obs, part.var, unit) for part in joined]
    codes = pd.Categorical(_labels(joined[0], options.label)).codes
    fitted, seen = _split(codes, options.seed, stratified=True)
    panel, whole = linear
    parts = (panel[fitted].copy(), whole[fitted].copy(), panel[seen].copy(), whole[seen].copy())
    return {name: partial(fit_reconstructor, name, *parts, block) for name, block in blocks.items()}


def paper_protocol(
    name: str,
    model: Generator,
    real: RealProfiles,
    options: PaperProtocolOptions,
    sampling: SamplingOptions,
    sampler: Any = None,
    transcriptomes: Transcriptomes | None = None,
) -> pd.DataFrame:
    """Indicators of one training of a generator, drawn several times, one profile per training row and label.

    ``accuracy`` is reverse validation: classifiers trained on drawn profiles and tested on the real test part, scaled
    as in the paper (by the drawn profiles for ``max_abs``, by the real ones for ``standard``).

    Args:
        name: of the row. model: one training.
        sampler: as ``model.sample`` takes it, where it does; the indicators, without ``accuracy``, are also taken with
            ``options.steps`` in place of its own number of steps.
        real: landmark profiles. transcriptomes: None for landmark genes alone.

    Returns:
        A row per metric, ``COLUMNS``: mean and standard deviation (with n in the denominator) over ``runs`` drawings.
    """
    steps, how = (None, {}) if sampler is None else (sampler.steps, {"sampler": sampler})
    kind = kind_of(model)
    landmarks = _Landmarks(real, kind, options)
    whole, direct, ways = None, None, {}
    if transcriptomes is not None and options.transcriptome is not None:
        whole, direct = _AllGenes(transcriptomes.real, options), transcriptomes.direct
        ways = {reconstructor: load() for reconstructor, load in transcriptomes.reconstructors.items()}
    found = {way: _Found(len(real.linear)) for way in (*ways, *(["direct"] if direct else []))}

    def draw(model: Generator, run: int, **how: Any) -> np.ndarray:
        return to_linear(dense(model.sample(real.obs, sampling.seed + run, sampling.batch_size, **how)))

    times = max(landmarks.times, whole.times if whole else 0)
    for run in range(times):
        drawn = draw(model, run, **how)
        landmarks.score(drawn, run, landmarks.found)
        if whole is not None and run < whole.times:
            standardised = _standardised(drawn, landmarks)
            for way, reconstructor in ways.items():
                whole.score(rebuild(reconstructor, standardised), run, found[way])
            if direct is not None:
                whole.score(whole.standard(draw(direct, run, **how)), run, found["direct"])
        logger.info("%s: the paper's protocol, drawing %d of %d", name, run + 1, times)
    rows = list(landmarks.found.rows(name, "landmarks", "none", kind, steps))
    for way, values in found.items():
        rows += values.rows(name, "transcriptome", way, "standard", steps)
    for number in sorted({*options.steps} - {steps}) if sampler is not None else ():
        other = _Found(len(real.linear))
        for run in range(options.drawings):
            drawn = draw(model, run, sampler=sampler.model_copy(update={"steps": number}))
            landmarks.indicators(landmarks.space(drawn), landmarks.standard(drawn), other)
        rows += other.rows(name, "landmarks", "none", kind, number)
        logger.info("%s: the paper's protocol, %d steps", name, number)
    return _table(rows)


def real_rows(
    real: RealProfiles, options: PaperProtocolOptions, transcriptomes: Transcriptomes | None = None
) -> pd.DataFrame:
    """The same of the real test part, as the ceiling, in both spaces; and the errors of the reconstructions on it.

    The test part is smaller than a drawing where the split makes it so, and indicators depend on sizes: column ``n`` is
    that of the test part. Its classifiers, as many as a generator has, learn from the same real profiles and differ in
    their initial weights and batches. A table as that of ``paper_protocol``.
    """
    kinds: tuple[Kind, Kind] = ("max_abs", "standard")
    rows: list[tuple[Any, ...]] = []
    for kind in kinds:
        found = _Landmarks(real, kind, options).score_test(with_accuracy=kind == "standard")
        rows += found.rows("real", "landmarks", "none", kind, None)
    if transcriptomes is not None and options.transcriptome is not None:
        found = _AllGenes(transcriptomes.real, options).score_test(with_accuracy=True)
        rows += found.rows("real", "transcriptome", "none", "standard", None)
        for name, load in transcriptomes.reconstructors.items():
            found = _Found(len(real.test))
            found.add("mae_standardised", _reconstruction_error(load(), real, transcriptomes.real))
            rows += found.rows("real", "transcriptome", name, "standard", None)
    return _table(rows)


def _table(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS).astype({"steps": "Int64"})


@dataclass
class _Found:
    """Values by metric, as they come."""

    n: int
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, metric: str, value: float) -> None:
        self.values.setdefault(metric, []).append(value)

    def rows(
        self, generator: str, space: str, reconstructor: str, scaling: str, steps: int | None
    ) -> Iterator[tuple[Any, ...]]:
        for metric, values in self.values.items():
            reference = "test" if metric in AGAINST_TEST else "train"
            numbers = (float(np.mean(values)), float(np.std(values)), len(values), self.n)
            yield (generator, space, reconstructor, scaling, steps, reference, "paper", metric, *numbers)


class _Space:
    """The scores of profiles in one space, against the real ones."""

    neighbours: int
    most_apart: int
    #: rows of the correlation, None for all
    most_correlated: int | None
    drawings: int
    classifiers: int
    classifier: PaperClassifierOptions
    #: whether the classifier of real profiles holds out a fifth of every class
    stratified = False

    def __init__(self, real: RealProfiles, space: PaperSpace, options: PaperProtocolOptions) -> None:
        self.real, self.seed, self.space = real, options.seed, space
        self.scaled = space(real.linear)
        self.standard = space if space.kind == "standard" else real.standard()

    @property
    def times(self) -> int:
        return max(self.drawings, self.classifiers)

    def fit_to_real(self, runs: Iterable[int]) -> Iterator[tuple[nn.Sequential, PaperSpace]]:
        """Classifiers of real profiles, and the standardisation by those that they were fitted to.

        Every run has the same profiles, and initial weights and batches of its own.
        """
        fitted, seen = _split(self.real.codes, self.seed, self.stratified)
        space = PaperSpace.fit(self.real.linear[fitted], "standard")
        train, other = ((space(self.real.linear[rows]), self.real.codes[rows]) for rows in (fitted, seen))
        for run in runs:
            yield train_classifier(train, other, self.real.classes, self.classifier, self.seed + run), space

    @cached_property
    def real_classifier(self) -> tuple[nn.Sequential, PaperSpace]:
        """The first of them, whose features the Fréchet distance compares."""
        return next(self.fit_to_real([0]))

    def indicators(
        self,
        profiles: np.ndarray,
        standardised: np.ndarray,
        found: _Found,
        pairs: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        """Those of neighbours, correlation and features.

        Args:
            profiles, standardised: scored profiles (n, n_genes) in the generator's space, and standardised.
            pairs: numbers of real and of scored profiles of the same labels, in the order of a random draw; None where
                both have the labels of the training file.
        """
        if pairs is None:
            order = np.random.default_rng(self.seed).permutation(len(profiles))
            pairs = order, order
        matched, rows = pairs
        for metric, value in fidelity(self.scaled, profiles, self.neighbours).items():
            if not metric.startswith("adversarial_accuracy"):
                found.add(metric, value)
        most = self.most_apart
        apart = fidelity(self.scaled[matched[:most]], profiles[rows[:most]], 1)["adversarial_accuracy"]
        found.add("adversarial_accuracy", apart)
        sides = self.scaled, profiles
        if self.most_correlated is not None:
            sides = self.scaled[matched[: self.most_correlated]], profiles[rows[: self.most_correlated]]
        found.add("correlation", correlation_score(*sides))
        seen = [features(self.real_classifier[0], part) for part in (self.standard(self.real.linear), standardised)]
        found.add("frechet_classifier", frechet(*seen))

    def score_test(self, with_accuracy: bool) -> _Found:
        """Of the real test part; the accuracy is the same in every space."""
        found = _Found(len(self.real.test))
        pairs = _matched(self.real.codes, self.real.test_codes, self.seed)
        self.indicators(self.space(self.real.test), self.standard(self.real.test), found, pairs)
        if with_accuracy:
            for network, space in chain([self.real_classifier], self.fit_to_real(range(1, self.classifiers))):
                found.add("accuracy", _accuracy(network, space(self.real.test), self.real.test_codes))
        return found

    def reverse(
        self, profiles: np.ndarray, test: np.ndarray, parts: tuple[np.ndarray, np.ndarray], run: int, found: _Found
    ) -> None:
        """Accuracy on real test profiles of a classifier that saw drawn profiles alone, to stop as well."""
        pairs = [(profiles[rows], self.real.codes[rows]) for rows in parts]
        network = train_classifier(pairs[0], pairs[1], self.real.classes, self.classifier, self.seed + run)
        found.add("accuracy", _accuracy(network, test, self.real.test_codes))


class _Landmarks(_Space):
    """Landmark profiles in the generator's own space."""

    def __init__(self, real: RealProfiles, kind: Kind, options: PaperProtocolOptions) -> None:
        super().__init__(real, PaperSpace.fit(real.linear, kind), options)
        self.neighbours, self.most_apart, self.most_correlated = options.neighbours, options.most_apart[kind], None
        self.drawings, self.classifiers, self.classifier = options.drawings, options.classifiers, options.classifier
        self.found = _Found(len(real.linear))

    def score(self, drawn: np.ndarray, run: int, found: _Found) -> None:
        """Linear values of one drawing, (n, n_landmarks)."""
        if run < self.drawings:
            self.indicators(self.space(drawn), self.standard(drawn), found)
        if run < self.classifiers:
            parts = _split(self.real.codes, self.seed, stratified=self.space.kind == "standard")
            space = self.standard if self.space.kind == "standard" else PaperSpace.fit(drawn[parts[0]], "standard")
            self.reverse(space(drawn), space(self.real.test), parts, run, found)


class _AllGenes(_Space):
    """All genes, standardised by the training file, whatever the generator's own space is."""

    stratified = True

    def __init__(self, real: RealProfiles, options: PaperProtocolOptions) -> None:
        super().__init__(real, real.standard(), options)
        own = options.transcriptome
        assert own is not None
        self.neighbours, self.most_apart, self.most_correlated = own.neighbours, own.rows, own.rows
        self.drawings, self.classifiers, self.classifier = options.drawings, own.classifiers, own.classifier

    def score(self, profiles: np.ndarray, run: int, found: _Found) -> None:
        """One drawing, standardised, (n, n_genes)."""
        if run < self.drawings:
            self.indicators(profiles, profiles, found)
        if run < self.classifiers:
            parts = _split(self.real.codes, self.seed, stratified=True)
            self.reverse(profiles, self.standard(self.real.test), parts, run, found)


def rebuild(model: Reconstructor, landmarks: np.ndarray) -> np.ndarray:
    """All genes (n, n_genes) for landmarks (n, n_landmarks), both standardised, without noise."""
    whole = np.empty((len(landmarks), len(model.genes)), dtype=np.float32)
    whole[:, model.genes.index.get_indexer(model.landmarks)] = landmarks
    targets = np.flatnonzero(model.targets)
    for rows in np.array_split(np.arange(len(landmarks)), -(-len(landmarks) // 1024)):
        whole[np.ix_(rows, targets)] = model.predict(landmarks[rows])
    return whole


def _standardised(drawn: np.ndarray, landmarks: _Landmarks) -> np.ndarray:
    """Drawn landmarks as the reconstructions take them: by their own constants for ``max_abs``, else by the real."""
    space = landmarks.standard if landmarks.space.kind == "standard" else PaperSpace.fit(drawn, "standard")
    return space(drawn)


def _reconstruction_error(model: Reconstructor, landmarks: RealProfiles, whole: RealProfiles) -> float:
    """Mean absolute error on the test part, in standard deviations of the linear values of the fitted profiles."""
    predicted = model.predict(model.inputs(landmarks.test))
    return float(np.abs(predicted - model.outputs(whole.test[:, model.targets])).mean())


def _linear_unit(profiles: ad.AnnData) -> str:
    unit = str(profiles.uns["unit"])
    if (linear := linear_unit(unit)) is None:
        raise ValueError(
            f"the paper's protocol needs linear values, and the profiles are in {unit!r}; expected "
            "log2(... + 1). Run it on a cohort of TPM, FPKM or RSEM values."
        )
    return linear


def _labels(profiles: ad.AnnData, label: str) -> np.ndarray:
    return profiles.obs[label].astype(str).to_numpy()


def _accuracy(network: nn.Sequential, profiles: np.ndarray, codes: np.ndarray) -> float:
    return accuracy(network, torch.from_numpy(profiles), torch.from_numpy(codes))


def _matched(codes: np.ndarray, others: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """As many rows of both as possible with equal labels, each once, in a random order."""
    rng = np.random.default_rng(seed)
    pairs = []
    for code in np.intersect1d(codes, others):
        sides = [rng.permutation(np.flatnonzero(part == code)) for part in (codes, others)]
        n = min(map(len, sides))
        pairs.append(np.stack([side[:n] for side in sides]))
    found = np.concatenate(pairs, axis=1)
    found = found[:, rng.permutation(found.shape[1])]
    return found[0], found[1]


def _split(codes: np.ndarray, seed: int, stratified: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit and to stop on, 80 to 20."""
    rows = np.arange(len(codes))
    strata = codes if stratified and np.unique(codes, return_counts=True)[1].min() > 1 else None
    fitted, seen = train_test_split(rows, test_size=HELD_OUT_SHARE, random_state=seed, stratify=strata)
    return fitted, seen
