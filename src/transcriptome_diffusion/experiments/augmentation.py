"""The low-sample experiment: does a classifier that also learns from synthetic profiles know other donors better?

After Lacan, Sebag and Hanczar (2023), doi:10.1093/bioinformatics/btad239: a few real profiles of every tissue, a
generator trained on those alone, several synthetic profiles per real one, a tissue classifier tested on other donors.

A room of its own beside ``tuning``, since it trains generators, which metrics do not know, and knows no pipeline.
Training and scoring are two functions: ``train_classifiers`` is never given a held-out donor.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from scipy.special import softmax
from torch import nn

from transcriptome_diffusion.experiments.learning_curves import Drawn
from transcriptome_diffusion.experiments.options import AugmentationOptions
from transcriptome_diffusion.expression.profiles import dense, require_same_genes
from transcriptome_diffusion.expression.scaling import GeneScaler
from transcriptome_diffusion.generators.base import Generator
from transcriptome_diffusion.generators.privacy_options import PrivacyOptions
from transcriptome_diffusion.generators.runs import SEED_STEP
from transcriptome_diffusion.metrics.options import ClassifierOptions
from transcriptome_diffusion.metrics.utility import classification_scores, train_mlp
from transcriptome_diffusion.training import TrainingDivergedError

logger = logging.getLogger(__name__)

#: what is trained without synthetic profiles; its ratio is 0
NONE = "none"
#: synthetic profiles that are kept of a set, if there are no more real ones
LIMIT = 1000
#: what stands for all profiles in the table
ALL = "all"
COLUMNS = ["method", "n_per_tissue", "ratio", "seed", "metric", "value", "real_profiles", "note"]

#: (training profiles, validation profiles, sample table, seed) -> one profile per row of the table, (n, n_genes) in
#: the training profiles' unit
Synthesise = Callable[[ad.AnnData, ad.AnnData, pd.DataFrame, int], np.ndarray]


# --------------------------------------------------------------------------------------- few real profiles
def few_profiles(profiles: ad.AnnData, per_label: int | None, label: str, seed: int) -> ad.AnnData:
    """Up to ``per_label`` profiles of every label, donor by donor; None for all profiles.

    Donors are taken in one random order for all labels and sizes, so that a smaller set lies within a larger one and
    the profiles of a donor come in together. A label with fewer profiles gives what it has.
    """
    if per_label is None:
        return profiles
    donors, donor = np.unique(profiles.obs["donor"].astype(str), return_inverse=True)
    order = np.argsort(np.random.default_rng(seed).permutation(len(donors))[donor], kind="stable")
    labels = profiles.obs[label].astype(str).to_numpy()[order]
    chosen = [order[labels == name][:per_label] for name in np.unique(labels)]
    return profiles[np.sort(np.concatenate(chosen))].copy()


def few_of_both(
    train: ad.AnnData, validation: ad.AnnData, per_label: int | None, label: str, seed: int
) -> tuple[ad.AnnData, ad.AnnData]:
    """``few_profiles`` of train, and of validation in the proportion the whole cohort has, one of a label at least.

    Otherwise a handful of training profiles would be stopped by many times as many validation profiles, which nobody
    with so few would have.
    """
    if per_label is None:
        return train, validation
    share = max(1, round(per_label * validation.n_obs / train.n_obs))
    return few_profiles(train, per_label, label, seed), few_profiles(validation, share, label, seed)


# ------------------------------------------------------------------------------------------------- methods
def oversample(train: ad.AnnData, validation: ad.AnnData, labels: pd.DataFrame, seed: int, *, label: str) -> np.ndarray:
    """Training profiles of the same label, drawn with replacement."""
    rng = np.random.default_rng(seed)
    values, groups = dense(train), _groups(train.obs, labels, label)
    drawn = np.empty((len(labels), train.n_vars), dtype=np.float32)
    for ours, wanted in groups:
        drawn[wanted] = values[rng.choice(ours, len(wanted))]
    return drawn


def smote(
    train: ad.AnnData, validation: ad.AnnData, labels: pd.DataFrame, seed: int, *, label: str, neighbours: int = 5
) -> np.ndarray:
    """Points between a training profile and one of its nearest neighbours with the same label.

    Chawla et al. (2002), doi:10.1613/jair.953: x + u (y - x), with u uniform in [0, 1] and y one of the
    ``neighbours`` nearest to x, Euclidean in gene-wise standardised space. x, y and u are drawn anew for each profile.
    A label with fewer profiles has fewer neighbours; a single profile is repeated. Within a label the variance shrinks
    to two thirds where neighbours are as far apart as any two profiles, and to nearly all where they are close.
    """
    rng = np.random.default_rng(seed)
    values = dense(train)
    standardised = GeneScaler.fit(values)(values).astype(np.float64)
    drawn = np.empty((len(labels), train.n_vars), dtype=np.float32)
    for ours, wanted in _groups(train.obs, labels, label):
        k = min(neighbours, len(ours) - 1)
        if not k:
            drawn[wanted] = values[ours]
            continue
        squares = np.square(standardised[ours]).sum(axis=1)
        distances = squares[:, None] + squares - 2 * standardised[ours] @ standardised[ours].T
        np.fill_diagonal(distances, np.inf)
        nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]
        base = rng.integers(len(ours), size=len(wanted))
        x, y = values[ours[base]], values[ours[nearest[base, rng.integers(k, size=len(wanted))]]]
        drawn[wanted] = x + rng.random((len(wanted), 1), dtype=np.float32) * (y - x)
    return drawn


def _groups(obs: pd.DataFrame, labels: pd.DataFrame, label: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of ``obs`` and of ``labels`` for every label that is wanted."""
    known, wanted = (table[label].astype(str).to_numpy() for table in (obs, labels))
    for name in np.unique(wanted):
        if not (known == name).any():
            raise ValueError(f"no training profile has the {label} {name!r}; there is nothing to draw from.")
        yield np.flatnonzero(known == name), np.flatnonzero(wanted == name)


def references(options: AugmentationOptions, label: str) -> dict[str, Synthesise | None]:
    """What generators are compared with: nothing, copies, mixtures."""
    return {
        NONE: None,
        "oversampling": partial(oversample, label=label),
        "smote": partial(smote, label=label, neighbours=options.neighbours),
    }


def from_generator(
    cls: type[Generator],
    options: Any,
    batch_size: int = 1024,
    reference: ad.AnnData | None = None,
    privacy: PrivacyOptions | None = None,
    **how: Any,
) -> Synthesise:
    """Fit ``cls`` with ``options`` on the few profiles alone, then draw; ``how`` goes to its ``sample``.

    Args:
        reference: a public cohort that the generator takes axes from; ``privacy`` says what it takes of the profiles.
            The noise of ``dp`` has a seed here, so that tables can be made again: these models are not given away.
    """
    from transcriptome_diffusion.generators.pretrained import fit

    def synthesise(train: ad.AnnData, validation: ad.AnnData, labels: pd.DataFrame, seed: int) -> np.ndarray:
        chosen = options.model_copy(update={"seed": options.seed + SEED_STEP * seed})
        rng = np.random.default_rng([chosen.seed, train.n_obs])
        model = fit(cls, train, validation, chosen, reference, privacy or PrivacyOptions(), rng)
        return dense(model.sample(labels, seed=chosen.seed, batch_size=batch_size, **how))

    return synthesise


# --------------------------------------------------------------------------------------------- classifiers
@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained tissue classifier and what it was trained on.

    Attributes:
        method, n_per_tissue, ratio, seed: its place in the experiment; ``real_profiles`` is their number in all.
        kind: ``mlp`` or ``logistic``.
        scaler: of its few real training profiles.
        classes: names of the outputs, sorted.
        layers: weights (n_out, n_in) and biases, with rectifiers in between; none if there is no classifier.
        note: why there is none.
    """

    method: str
    n_per_tissue: str
    ratio: int
    seed: int
    real_profiles: int
    kind: str
    scaler: GeneScaler
    classes: np.ndarray
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    note: str = ""

    def probabilities(self, values: np.ndarray) -> np.ndarray:
        """(n, n_classes) for profiles (n, n_genes) in the log unit; all alike if there is no classifier."""
        h = self.scaler(values)
        for i, (weight, bias) in enumerate(self.layers):
            h = (np.maximum(h, 0) if i else h) @ weight.T + bias
        return softmax(h.astype(np.float64) if self.layers else np.zeros((len(values), len(self.classes))), axis=1)


def train_classifiers(
    method: str,
    synthesise: Synthesise | None,
    train: ad.AnnData,
    validation: ad.AnnData,
    options: AugmentationOptions,
    label: str = "tissue",
    *,
    classify: bool = True,
    kept: list[Drawn] | None = None,
    axes: np.ndarray | None = None,
) -> Iterator[Classifier]:
    """Classifiers for every number of real profiles, synthetic profiles per real one, and seed of one method.

    Synthetic profiles carry the labels of the real ones, so that the composition does not change. Those of a smaller
    ratio are the first of the largest one's. All methods share real profiles, classifier, and validation profiles,
    which stop generator and perceptron.

    Args:
        synthesise: None for real profiles alone, with ratio 0.
        train, validation: all there is of them, (n, n_genes) in the log unit, with ``donor`` and ``label``.
        classify: False to draw only.
        kept: takes up to ``LIMIT`` of the synthetic profiles of each set, for ``learning_curves.quality``.
        axes: of the public reference, for what is kept.

    Yields:
        For a training that breaks down, classifiers without layers whose ``note`` says why.

    Raises:
        ValueError: if the genes differ, or ``synthesise`` does not return one finite profile per label.
    """
    require_same_genes(validation, train.var_names, "augmentation (its training profiles)")
    ratios = [0] if synthesise is None else sorted(options.ratios)
    for seed in options.seeds:
        for per_label in options.profiles_per_label:
            few, seen = few_of_both(train, validation, per_label, label, seed)
            size = ALL if per_label is None else str(per_label)
            logger.info("%s: %s profiles per %s, seed %d", method, size, label, seed)
            scaler = GeneScaler.fit(dense(few))
            classes, codes = np.unique(few.obs[label].astype(str), return_inverse=True)
            known = seen.obs[label].astype(str).isin(classes).to_numpy()
            seen_codes = np.searchsorted(classes, seen.obs[label].astype(str)[known])
            real, watched = scaler(dense(few)), scaler(dense(seen)[known])
            synthetic, note = np.empty((0, few.n_vars), dtype=np.float32), ""
            if synthesise is not None:
                labels = pd.concat([few.obs] * ratios[-1], ignore_index=True)
                labels.index = labels.index.astype(str)
                try:
                    synthetic = _checked(synthesise(few, seen, labels, seed), (len(labels), few.n_vars), method)
                except TrainingDivergedError as error:
                    note = f"training broke down: {error}"
                    logger.warning("%s, %s profiles per %s, seed %d: %s", method, size, label, seed, note)
                if kept is not None and not note:
                    some = slice(max(LIMIT, few.n_obs))
                    names = labels[label].astype(str).to_numpy()[some]
                    kept.append(Drawn.of((method, size, seed), few, validation, synthetic[some], names, label, axes))
            if not classify:
                continue
            for ratio in ratios:
                inputs = np.concatenate([real, scaler(synthetic[: ratio * few.n_obs])]).astype(np.float32)
                repeated = np.tile(codes, ratio + 1)
                for kind in options.classifiers:
                    layers: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
                    if not note and kind == "mlp":
                        layers = _mlp(inputs, repeated, watched, seen_codes, len(classes), options.classifier, seed)
                    elif not note:
                        # the penalty is one for all profiles: it would weaken with their number alone
                        layers = _logistic(inputs, repeated, options.classifier.logistic_c / (ratio + 1))
                    yield Classifier(method, size, ratio, seed, few.n_obs, kind, scaler, classes, layers, note)


def _checked(synthetic: np.ndarray, shape: tuple[int, int], method: str) -> np.ndarray:
    if synthetic.shape != shape or not np.isfinite(synthetic).all():
        raise ValueError(
            f"{method} returned profiles {synthetic.shape} with {int((~np.isfinite(synthetic)).sum())} NaN or infinite "
            f"values; expected {shape}, all finite."
        )
    return synthetic


def _mlp(
    inputs: np.ndarray,
    codes: np.ndarray,
    watched: np.ndarray,
    watched_codes: np.ndarray,
    n_classes: int,
    options: ClassifierOptions,
    seed: int,
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    network = train_mlp(inputs, codes, watched.astype(np.float32), watched_codes, n_classes, options, seed)
    with torch.no_grad():
        return tuple((part.weight.numpy(), part.bias.numpy()) for part in network if isinstance(part, nn.Linear))


def _logistic(inputs: np.ndarray, codes: np.ndarray, c: float) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=c, max_iter=500).fit(inputs, codes)
    if len(model.classes_) == 2:  # one row of weights, for the second class
        return ((np.vstack([0 * model.coef_, model.coef_]), np.append(0, model.intercept_)),)
    return ((model.coef_, model.intercept_),)


def score(classifiers: Iterable[Classifier], test: ad.AnnData, label: str = "tissue") -> pd.DataFrame:
    """How well the classifiers name the tissue of held-out donors' profiles, (n, n_genes) in the log unit.

    Returns:
        A row per classifier and metric, with the columns ``COLUMNS``. ``metric`` is ``accuracy``,
        ``balanced_accuracy``, ``macro_f1`` or ``auroc`` of ``utility.classification_scores`` with ``_mlp`` or
        ``_logistic``. ``n_per_tissue`` is text, since it may be ``all``; ``value`` is missing where ``note`` says why.
    """
    values, expected = dense(test), test.obs[label].astype(str).to_numpy()
    rows: list[tuple[Any, ...]] = []
    for one in classifiers:
        for metric, value in classification_scores(one.probabilities(values), one.classes, expected).items():
            place = (one.method, one.n_per_tissue, one.ratio, one.seed, f"{metric}_{one.kind}")
            rows.append((*place, np.nan if one.note else value, one.real_profiles, one.note))
    return pd.DataFrame(rows, columns=COLUMNS)


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """What every method gains over real profiles alone: a row per method, n_per_tissue, ratio and metric.

    Returns:
        ``mean``: of the value over seeds. ``gain``: mean over seeds of the difference to method ``none`` with the same
        real profiles, seed and metric. ``sd``: of that difference between seeds, missing with one.
    """
    keys = ["n_per_tissue", "seed", "metric"]
    alone = table.loc[table["method"] == NONE, [*keys, "value"]].rename(columns={"value": "alone"})
    others = table.loc[table["method"] != NONE].merge(alone, on=keys, validate="many_to_one")
    others["gain"] = others["value"] - others["alone"]
    by = others.groupby(["method", "n_per_tissue", "ratio", "metric"], sort=False)
    return by.agg(mean=("value", "mean"), gain=("gain", "mean"), sd=("gain", "std")).reset_index()


def as_text(table: pd.DataFrame, metric: str) -> str:
    """Means over seeds as a plain table for the log: a row per method and ratio, a column per real profiles."""
    part = table[table["metric"] == metric]
    wide = part.pivot_table(index=["method", "ratio"], columns="n_per_tissue", values="value", sort=False)
    return wide.round(3).to_string()
