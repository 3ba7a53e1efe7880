"""Scores of a generator, of real donors and of a trained model's losses: one long table each, in the same columns."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import anndata as ad
import numpy as np
import pandas as pd

from transcriptome_diffusion.expression.profiles import dense, find_unsound, split_runs
from transcriptome_diffusion.memory import SMALLER, require_memory
from transcriptome_diffusion.metrics.comparisons import Table, compare, compare_records, errors_of_biology
from transcriptome_diffusion.metrics.expected import expected_scores
from transcriptome_diffusion.metrics.membership import LIMIT, NORMAL, loss_attack
from transcriptome_diffusion.metrics.neighbours import DOUBLE
from transcriptome_diffusion.metrics.options import EvaluationOptions
from transcriptome_diffusion.metrics.privacy import halves
from transcriptome_diffusion.metrics.profile_set import ProfileSet
from transcriptome_diffusion.metrics.reference import MOST, EvaluationReference, SpaceReference
from transcriptome_diffusion.metrics.refit import score_refit
from transcriptome_diffusion.metrics.registry import NO_RECONSTRUCTOR, select
from transcriptome_diffusion.metrics.statistics import thinned_rows

logger = logging.getLogger(__name__)

#: ``label`` is empty for values over all tissues, else a tissue, a contrast, or the time of a loss, ``t=0.04``
SCORE_COLUMNS = [
    *("generator", "reconstructor", "space", "run", "reference", "metric", "label"),
    *("draw", "value", "n", "low", "high", "note"),
]
#: the white-box attacks, and whether losses are taken relative to those of a network that predicts zero
LOSS_ATTACKS = {"loss_attack": False, "loss_attack_relative": True}


class HasLosses(Protocol):
    """A trained model that gives the loss of single profiles."""

    def per_profile_loss(
        self, profiles: ad.AnnData, seed: int, times: Sequence[float], *, relative: bool
    ) -> np.ndarray:
        """Losses (n, n_times) with the same noise for every profile."""
        ...


def score_generator(
    name: str,
    landmarks: ad.AnnData,
    transcriptomes: Mapping[str, Callable[[], ad.AnnData]],
    reference: EvaluationReference,
    options: EvaluationOptions,
) -> pd.DataFrame:
    """Every metric of all runs of a generator: ``comparisons.compare`` in both spaces, and privacy on landmarks.

    Args:
        name: of the row.
        landmarks: (n, n_landmarks) in the log unit; a column ``run`` of ``obs`` tells trainings apart.
        transcriptomes: by reconstructor (``NO_RECONSTRUCTOR`` where there is none) a function that loads the profiles
            (n, n_genes); one set is in memory at a time.

    Returns:
        A row per value, with the columns ``SCORE_COLUMNS``; none for profiles that are empty. Privacy has the space
        ``landmarks`` and the reference ``train``.

    Raises:
        ValueError: if genes differ from the reference's, values are NaN, or a tissue has too few profiles.
        NotEnoughMemoryError: before a space is scored.
    """
    tables = _score_space(name, landmarks, reference, options, "landmarks")
    for reconstructor, load in transcriptomes.items():
        gc.freeze()  # what is there now is not searched below, which would take a quarter of a second
        tables += _score_space(name, load(), reference, options, "transcriptome", reconstructor)
        gc.collect()  # an AnnData refers to itself; the next is loaded when this one is gone
        gc.unfreeze()
    if not tables:
        logger.info("%s: no profiles, so no scores", name)
    return _together(tables)


def without_profiles(name: str, why: str) -> pd.DataFrame:
    """The row of a generator that has no profiles: headline metrics without a value, with the reason as their note."""
    rows = [
        {"reference": reference, "metric": metric, "label": "", "draw": 0, "n": 0, "note": why}
        for reference in ("test", "train")
        for metric in select(headline=reference)
    ]
    return _named(pd.DataFrame(rows).assign(value=np.nan, low=np.nan, high=np.nan), name, "landmarks")


def _score_space(
    name: str,
    profiles: ad.AnnData,
    reference: EvaluationReference,
    options: EvaluationOptions,
    space: str,
    reconstructor: str = NO_RECONSTRUCTOR,
) -> list[pd.DataFrame]:
    """A table per run, none without profiles."""
    if not profiles.n_obs:
        return []
    require_room(f"{name} in the space {space}", reference[space], profiles, attacked=space == "landmarks")
    return [
        _named(_score_run(part, reference[space], options, space), name, space, run, reconstructor)
        for run, part in split_runs(profiles)
    ]


def _score_run(part: ad.AnnData, reference: SpaceReference, options: EvaluationOptions, space: str) -> pd.DataFrame:
    if space != "landmarks" and part.n_obs > MOST:
        part = part[thinned_rows(part.obs[options.label].astype(str).to_numpy(), MOST)]
    profiles = reference.measure(part)
    found = compare(profiles, profiles, reference, options, space)
    if space != "landmarks":
        return found
    return pd.concat([found, compare_records(profiles, reference.train, reference, options.seed)])


def score_real(reference: EvaluationReference, options: EvaluationOptions) -> pd.DataFrame:
    """The row ``real``: training donors scored as if they were synthetic, what a generator can reach at best.

    Against train they are replaced by held-out donors. For privacy, half of the training donors stand for the
    synthetic profiles and the other half for the training profiles. Two rows that need nothing else are added:
    ``expected``, the values known for new profiles of the population, and ``refit`` on landmarks, ``score_refit``.

    Returns:
        As ``score_generator``.
    """
    tables = []
    for name in reference.spaces:
        space = reference[name]
        require_room("real", space)
        found = compare(space.train, space.test, space, options, name)
        if name == "landmarks":
            found = _with_errors(found, errors_of_biology(space.train, space, options))
            one, other = (space.train.take(rows) for rows in halves(space.train, options.seed))
            found = pd.concat([found, compare_records(one, other, space, options.seed)])
            tables.append(_named(score_refit(space, options), "refit", name))
        tables += [
            _named(found, "real", name),
            _named(expected_scores(found, space, options), "expected", name),
        ]
    # `real` first, as all others are read against it
    return _together(tables).sort_values("generator", key=lambda row: row != "real", kind="stable", ignore_index=True)


def score_white_box(
    name: str,
    models: Iterable[HasLosses],
    train: ad.AnnData,
    test: ad.AnnData,
    options: EvaluationOptions,
    times: Sequence[float],
) -> pd.DataFrame:
    """The loss attack with the trained models in hand, a run per model: ``membership.loss_attack``.

    Args:
        name: of the row. train, test: landmark profiles (n, n_landmarks) of members and of held-out donors.
        times: at which losses are taken.

    Returns:
        As ``score_generator``; rows with the label ``t=0.04`` are the AUC at that time alone.

    Raises:
        ValueError: if profiles or losses are NaN or infinite.
    """
    for split, profiles in (("train", train), ("test", test)):
        if find_unsound(dense(profiles)):
            raise ValueError(f"the {split} profiles have NaN or infinite values; losses need finite profiles.")
    members, others = (
        ProfileSet(p, p.obs[options.label].astype(str).to_numpy(), p.obs["donor"].astype(str).to_numpy())
        for p in (train, test)
    )
    tables = []
    for run, model in enumerate(models, 1):
        table = Table()
        for attack, relative in LOSS_ATTACKS.items():

            def loss(profiles: ad.AnnData, model: HasLosses = model, relative: bool = relative) -> np.ndarray:
                return model.per_profile_loss(profiles, options.seed, times, relative=relative)

            found, by_time = loss_attack(loss, members, others, times, options.seed, attack)
            table.extend(found, "train")
            auc, labels = found.iloc[0], [f"t={time:g}" for time in by_time["time"]]
            by_time = by_time.assign(metric=auc["metric"], label=labels, n=auc["n"], note=auc["note"])
            table.extend(by_time, "train")
        tables.append(_named(table.frame(), name, "landmarks", run))
    return _together(tables)


def _with_errors(found: pd.DataFrame, errors: Mapping[str, float]) -> pd.DataFrame:
    """Intervals of 95 % from standard errors, for values over all tissues that have none."""
    half = NORMAL * found["metric"].map(errors).where(found["label"] == "")
    low, high = found["low"].fillna(found["value"] - half), found["high"].fillna(found["value"] + half)
    return found.assign(low=low, high=high)


def require_room(
    what: str, space: SpaceReference, profiles: ad.AnnData | None = None, *, attacked: bool = False
) -> None:
    """Refuse to score where memory does not suffice; of several runs one is standardised at a time.

    Args:
        what: is scored. space: with the real profiles. profiles: those drawn.
        attacked: whether they are also attacked, as on landmarks.

    Raises:
        NotEnoughMemoryError: with what is needed and what there is.
    """
    n_train, n_validation, n_test = (len(part.labels) for part in (space.train, space.validation, space.test))
    made = max((part.n_obs for _, part in split_runs(profiles)), default=0) if profiles is not None else 0
    genes = len(space.genes)
    # standardised beside the profiles, and the copy that distances and axes work on
    needed = 4.0 * (n_train + n_validation + n_test + made + max(n_train, made)) * genes
    # all pairs of the profiles that stand for the real ones, and of these with the others
    known = sum(min(n, MOST) for n in (n_train, n_validation, n_test))
    for rows in (known, known + min(made, MOST)):
        needed += rows**2 * (8.0 if rows <= DOUBLE else 4.0)
    # coordinates of the kernel attack, which sees all of them
    needed += 16.0 * made * min(genes, LIMIT) if attacked else 0
    require_memory(f"scoring {what} ({genes} genes)", needed, SMALLER)


def _named(
    table: pd.DataFrame, generator: str, space: str, run: int = 1, reconstructor: str = NO_RECONSTRUCTOR
) -> pd.DataFrame:
    return table.assign(generator=generator, reconstructor=reconstructor, space=space, run=run)[SCORE_COLUMNS]


def _together(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=SCORE_COLUMNS)
