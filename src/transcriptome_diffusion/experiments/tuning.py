"""The search for a generator's settings: trials on validation donors, in an Optuna study that processes share.

Optuna (Akiba et al. 2019, doi:10.1145/3292500.3330701) proposes settings with a multivariate tree-structured Parzen
estimator (Bergstra et al. 2011, NeurIPS 24). A trial trains the generator on training donors several times with
different seeds, draws one profile per training sample, and scores them against validation donors. Nothing here ever
sees a held-out donor of the scorecard.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import anndata as ad
import numpy as np
import optuna
import pandas as pd
from omegaconf import OmegaConf
from optuna.storages.journal import JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState
from pydantic import BaseModel, ValidationError
from sqlalchemy import NullPool, create_engine, text

from transcriptome_diffusion.checkpoints import checkpoints_in
from transcriptome_diffusion.experiments.options import Dimension, TuningOptions
from transcriptome_diffusion.expression.profiles import dense
from transcriptome_diffusion.expression.scaling import GeneScaler
from transcriptome_diffusion.generators.base import Generator
from transcriptome_diffusion.generators.diffusion.sizes import resolve_sizes
from transcriptome_diffusion.generators.options import DenoiserOptions, SamplerOptions, SamplingOptions
from transcriptome_diffusion.generators.runs import SEED_STEP, fingerprint
from transcriptome_diffusion.metrics.copying import copying, spread
from transcriptome_diffusion.metrics.correlation import correlation_score
from transcriptome_diffusion.metrics.fidelity import fidelity
from transcriptome_diffusion.metrics.options import EvaluationOptions
from transcriptome_diffusion.metrics.profile_set import ProfileSet
from transcriptome_diffusion.metrics.statistics import matched
from transcriptome_diffusion.options import Options
from transcriptome_diffusion.training import TrainingDivergedError

logger = logging.getLogger(__name__)

#: the share of copies expected of fresh donors, the percentile in ``metrics.copying``
NULL_COPYING = 0.01
#: indicators that "likeness" compares with those of real training donors; ``f1`` would count two of them twice
COMPARED = ("precision", "recall", "density", "coverage", "adversarial_accuracy", "correlation", "spread")
#: ends the name of a storage that is a journal
JOURNAL = ".journal"
#: SQLAlchemy's name of PostgreSQL with the driver of the extra `cluster`
POSTGRESQL = "postgresql+psycopg"
#: of the lock on a PostgreSQL server that a starting search takes
START_LOCK = 7_210_419
#: seconds between two signs of life of a running trial, and after which silence it is given to another process
HEARTBEAT, SILENCE = 30, 120
#: seconds to wait while another process writes to the study
PATIENCE = 300
#: trials that count towards `trials`; Optuna marks as failed what was interrupted or killed, which does not count
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


# ------------------------------------------------------------------------------------ settings and spaces
def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """``{"network.width": 64}`` as ``{"network": {"width": 64}}``."""
    tree = OmegaConf.create()
    for path, value in flat.items():
        OmegaConf.update(tree, path, value)
    return cast(dict[str, Any], OmegaConf.to_container(tree))


def lookup(settings: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path.

    Raises:
        KeyError: naming what stands at the last level that exists.
    """
    found: Any = settings
    for depth, name in enumerate(path.split(".")):
        if not isinstance(found, Mapping) or name not in found:
            level = ".".join(path.split(".")[:depth]) or "the generator"
            known = sorted(found) if isinstance(found, Mapping) else f"no options, its value is {found!r}"
            raise KeyError(f"no option {path!r}: {level} has {known}")
        found = found[name]
    return found


def merged(settings: Mapping[str, Any], flat: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested ``settings`` with the values of ``flat`` at their dotted paths, which must exist."""
    tree = OmegaConf.create(dict(settings), flags={"struct": True})
    for path, value in flat.items():
        OmegaConf.update(tree, path, value, merge=False)
    return cast(dict[str, Any], OmegaConf.to_container(tree))


def current_settings(name: str, space: Mapping[str, Dimension], options: BaseModel) -> dict[str, Any]:
    """What ``options`` say now on the paths of ``space``, after the checks a search needs before its first trial.

    Raises:
        ValueError: if the space is empty, a path is no option of the generator, the generator refuses an end or
            a choice of a dimension, or the current value lies outside its dimension.
    """
    if not space:
        raise ValueError(f"{name} has no space to search; declare one under `tuning.spaces.{name}` in the parameters.")
    settings = options.model_dump(mode="json")
    current = {}
    for path, dimension in space.items():
        where = f"tuning.spaces.{name}.{path}"
        try:
            current[path] = lookup(settings, path)
        except KeyError as error:
            raise ValueError(f"{where}: {error.args[0]}.") from error
        for extreme in dimension.extremes():
            try:
                type(options).model_validate(merged(settings, {path: extreme}))
            except ValidationError as error:
                reason = "; ".join(detail["msg"] for detail in error.errors())
                raise ValueError(f"{where} holds {extreme!r}, which {name} refuses: {reason}.") from error
        if not dimension.holds(current[path]):
            raise ValueError(
                f"{where} holds {dimension.model_dump(exclude_defaults=True)}, the current value is {current[path]!r}. "
                f"Widen the space, or change `{name}.{path}`: the search begins at the current settings."
            )
    return current


def suggest(trial: optuna.Trial, path: str, dimension: Dimension) -> Any:
    """Let Optuna choose a value; choices travel as JSON, since its storage knows neither lists nor mappings."""
    if dimension.choices is not None:
        return json.loads(trial.suggest_categorical(path, [json.dumps(choice) for choice in dimension.choices]))
    low, high = dimension.bounds
    if dimension.kind == "int":
        return trial.suggest_int(path, int(low), int(high), step=int(dimension.step or 1), log=dimension.log)
    value = trial.suggest_float(path, low, high, step=dimension.step, log=dimension.log)
    if dimension.step is not None:
        return value
    # three digits are all a search can tell apart, and what a person wants to read in a parameters file
    return min(max(float(f"{value:.3g}"), low), high)


def as_parameter(value: Any, dimension: Dimension) -> Any:
    """The value under which Optuna would store ``value``, the reverse of ``suggest``."""
    if dimension.choices is None:
        return value
    return json.dumps(dimension.choices[dimension.choices.index(value)])


# -------------------------------------------------------------------------------------------- objective
class ValidationObjective:
    """Indicators of synthetic profiles against validation donors, and the one number that a search maximises.

    Distances are Euclidean in the space standardised by training donors. Nearest-neighbour indicators are means
    over ``evaluation.draws`` matched draws of the size of the validation donors, with k from
    ``evaluation.neighbours.landmarks``; copying uses all profiles, and its limit comes from validation donors.

    Args:
        train, validation: (n_samples, n_genes) profiles of different donors in one unit.
    """

    def __init__(
        self, train: ad.AnnData, validation: ad.AnnData, evaluation: EvaluationOptions, options: TuningOptions
    ) -> None:
        self.scaler = GeneScaler.fit(dense(train))
        self.evaluation, self.options = evaluation, options
        self.train, self.validation = self.labelled(train), self.labelled(validation)
        self.real = self.compare(self.train)

    def labelled(self, profiles: ad.AnnData) -> ProfileSet:
        """Profiles in the standardised space, with the label that draws are matched on."""
        labels = profiles.obs[self.evaluation.label].astype(str).to_numpy()
        return ProfileSet(self.scaler(dense(profiles)), labels)

    def compare(self, candidate: ProfileSet) -> dict[str, float]:
        """Mean indicators of ``candidate`` against validation donors over the matched draws."""
        options, rows = self.evaluation, []
        for ours, theirs in matched(self.validation, candidate, self.validation, options.draws, options.seed):
            row = fidelity(ours.values, theirs.values, options.neighbours.landmarks)
            row["correlation"] = correlation_score(ours.values, theirs.values)
            row["spread"] = spread(ours.values, ours.labels, theirs.values, theirs.labels)
            rows.append(row)
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def indicators(self, profiles: ad.AnnData) -> dict[str, float]:
        """Everything ``value`` needs, ``copying`` among it."""
        candidate = self.labelled(profiles)
        share = copying(candidate.values, self.train.values, self.validation.values)
        return {**self.compare(candidate), "copying": share}

    def value(self, indicators: Mapping[str, float]) -> float:
        """The objective; higher is better.

        ``f1``: the harmonic mean of precision and recall, at most 1. It rewards looking real and covering all that
        is real, but not the right density, and saturates where real donors themselves score near 1.

        ``likeness``: minus the mean absolute distance of ``COMPARED`` to the same indicators of real training
        donors, at most 0. It asks to be as far from validation donors as other real donors are, neither more nor
        less, and so also sees shrunken, crowded and too diffuse profiles.

        Either is lowered by ``copying_penalty`` times the share of copies above the null of .01.
        """
        if self.options.objective == "f1":
            gain = indicators["f1"]
        else:
            gain = -float(np.mean([abs(indicators[name] - self.real[name]) for name in COMPARED]))
        return gain - self.options.copying_penalty * max(0.0, indicators["copying"] - NULL_COPYING)


# ----------------------------------------------------------------------------------------------- study
@contextmanager
def quiet() -> Iterator[None]:
    """Hold back what Optuna and the single trainings report; a search says one line per trial."""
    package = __name__.partition(".")[0]
    levels = {
        "optuna": logging.CRITICAL,
        f"{package}.training": logging.WARNING,
        f"{package}.generators": logging.WARNING,
    }
    before = {name: logging.getLogger(name).level for name in levels}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def open_storage(place: str) -> optuna.storages.BaseStorage:
    """Where trials are kept: a journal file, a database with a URL, or else an SQLite file.

    A journal (``.journal``) or a database server serves processes on several machines, where SQLite does not. Only
    databases know signs of life, so that a trial of a killed process is given to another one.
    """
    if place.endswith(JOURNAL):
        backend = optuna.storages.journal.JournalFileBackend(place, lock_obj=JournalFileOpenLock(place))
        return optuna.storages.JournalStorage(backend)
    remote = "://" in place
    place = place.replace("postgresql://", f"{POSTGRESQL}://")
    return optuna.storages.RDBStorage(
        place if remote else f"sqlite:///{place}",
        engine_kwargs={} if remote else {"connect_args": {"timeout": PATIENCE}},
        heartbeat_interval=HEARTBEAT,
        grace_period=SILENCE,
        heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=1),
    )


@contextmanager
def one_at_a_time(place: str) -> Iterator[None]:
    """Of processes that start together, let one make the tables and enqueue the current settings.

    Raises:
        ImportError: if the driver of the database is not installed.
    """
    if place.startswith("postgresql"):
        try:
            engine = create_engine(place.replace("postgresql://", f"{POSTGRESQL}://"), poolclass=NullPool)
        except ImportError as error:
            raise ImportError(
                f"`tuning.storage` is a PostgreSQL server, whose driver is not installed ({error}): "
                "pip install 'transcriptome-diffusion[cluster]'."
            ) from error
        with engine.connect() as connection:  # the lock ends with it
            connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": START_LOCK})
            yield
    elif "://" in place:
        yield
    else:
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        lock = JournalFileOpenLock(f"{place}.start")
        lock.acquire()
        try:
            yield
        finally:
            lock.release()


@dataclass(frozen=True)
class Found:
    """The best settings of a study by dotted path, its value over the seeds, and every trial as a table."""

    settings: dict[str, Any]
    value: float
    deviation: float
    first: float | None
    table: pd.DataFrame
    trials: int
    seconds: float
    study: str


class Search:
    """One generator's study: resumed, shared, and worked on until it has all its trials.

    The study is named after the generator and a fingerprint of data, space, the settings that are not searched
    and everything the objective depends on, so trials that cannot be compared never meet in one study.

    Args:
        name: of the generator, as in the parameters.
        generator: its class.
        base: its current settings; those on the paths of the space are the first trial.
        train, validation: (n_samples, n_genes) profiles of different donors.
        options: space, budget, objective, storage.
        evaluation: label, draws and neighbours of the indicators.
        sampling: seed and batch size of the profiles drawn.
        samplers: for a denoiser, the samplers whose mean indicators count.

    Raises:
        ValueError: if the space does not fit the generator; see ``current_settings``.
    """

    def __init__(
        self,
        name: str,
        generator: type[Generator],
        base: BaseModel,
        train: ad.AnnData,
        validation: ad.AnnData,
        options: TuningOptions,
        evaluation: EvaluationOptions,
        sampling: SamplingOptions,
        samplers: Sequence[SamplerOptions] = (),
    ) -> None:
        if isinstance(base, DenoiserOptions):
            base, _ = resolve_sizes(base, train.n_obs)
        self.name, self.generator, self.base = name, generator, base
        self.train, self.validation = train, validation
        self.options, self.sampling, self.samplers = options, sampling, tuple(samplers)
        self.space = options.spaces.get(name, {})
        self.current = current_settings(name, self.space, base)
        self.objective = ValidationObjective(train, validation, evaluation, options)
        # all that decides what the value of a trial means
        meaning = [
            fingerprint(train, validation, Options()),
            {path: dimension.model_dump() for path, dimension in self.space.items()},
            merged(base.model_dump(mode="json"), dict.fromkeys(self.space)),
            evaluation.model_dump(mode="json", include={"label", "draws", "neighbours", "seed"}),
            options.model_dump(mode="json", include={"objective", "copying_penalty", "seeds"}),
            *(block.model_dump(mode="json") for block in (sampling, *self.samplers)),
        ]
        digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()
        self.study_name = f"{name}-{digest[:12]}"
        self.folder = None if "://" in options.storage else Path(options.storage).parent
        with one_at_a_time(options.storage), quiet():
            self.study = self._open(options.storage)

    def _open(self, place: str) -> optuna.Study:
        """The study, new or as it was left, with the current settings waiting unless they were tried before."""
        storage = open_storage(place)
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if self.options.pruner == "median":
            pruner = optuna.pruners.MedianPruner(n_startup_trials=self.options.startup)
        known = [study for study in optuna.get_all_study_names(storage) if study.rpartition("-")[0] == self.name]
        if known and self.study_name not in known:
            logger.info(
                "%s: the %d earlier studies in %s had another cohort, space, objective or fixed settings; this "
                "is a new one",
                self.name,
                len(known),
                place,
            )
        study = optuna.create_study(
            storage=storage, study_name=self.study_name, direction="maximize", pruner=pruner, load_if_exists=True
        )
        if not isinstance(storage, optuna.storages.JournalStorage):  # it knows no signs of life
            optuna.storages.fail_stale_trials(study)
        trials = study.get_trials(deepcopy=False, states=(*COUNTED, TrialState.WAITING))
        if not any(trial.user_attrs.get("settings") == self.current for trial in trials):
            parameters = {path: as_parameter(value, self.space[path]) for path, value in self.current.items()}
            study.enqueue_trial(parameters, user_attrs={"settings": self.current})
        return study

    def run(self) -> Found | None:
        """Work on the study until it has ``trials`` of them, or ``seconds`` are over.

        Trials that other processes are working on count; where two processes finish in the same instant, there may
        be one trial too many. A training that diverges ends its trial, not the search.

        Returns:
            The best trial so far; None while no process has completed one.

        Raises:
            RuntimeError: if all trials are done and every one of them failed.
        """
        trials = self.study.get_trials(deepcopy=False)
        counted = sum(trial.state in COUNTED for trial in trials)
        logger.info(
            "%s: study %s in %s has %d of %d trials",
            self.name,
            self.study_name,
            self.options.storage,
            counted,
            self.options.trials,
        )
        if counted < self.options.trials:
            self._seed_sampler(len(trials))
            with quiet():
                self.study.optimize(
                    self._try,
                    timeout=self.options.seconds,
                    callbacks=[self._after, optuna.study.MaxTrialsCallback(self.options.trials, states=COUNTED)],
                )
        return self.found()

    def _seed_sampler(self, trials: int) -> None:
        # by the number of trials before: processes differ, and a resumed search goes on as an uninterrupted one
        self.study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=self.options.startup,
            multivariate=True,
            constant_liar=True,
            seed=self.options.seed + trials,
        )

    def _try(self, trial: optuna.Trial) -> float:
        """The mean value over training seeds; indicators, settings and what went wrong become attributes."""
        suggested = {path: suggest(trial, path, dimension) for path, dimension in self.space.items()}
        is_current = "settings" in trial.user_attrs  # it was enqueued with them, unrounded
        settings = trial.user_attrs.get("settings", suggested)
        trial.set_user_attr("settings", settings)
        rows: list[dict[str, float]] = []
        for run in range(self.options.seeds):
            try:
                rows.append(self._train(settings, run, trial))
            except (TrainingDivergedError, ValidationError) as error:
                trial.set_user_attr("note", str(error))
                trial.set_user_attr("diverged", True)
                raise optuna.TrialPruned from error
            table = pd.DataFrame(rows)
            for name, mean in table.mean().items():
                trial.set_user_attr(str(name), float(mean))
            if run:
                trial.set_user_attr("sd", float(table["value"].std()))
            trial.report(trial.user_attrs["value"], run)
            if run + 1 < self.options.seeds and not is_current and trial.should_prune():
                raise optuna.TrialPruned
        return float(trial.user_attrs["value"])

    def _train(self, settings: Mapping[str, Any], run: int, trial: optuna.Trial) -> dict[str, float]:
        """Indicators, value and seconds of one training; every run has seeds of its own, the same in all trials."""
        started = time.perf_counter()
        base = self.base.model_dump(mode="json")
        options = type(self.base).model_validate(merged(base, {**settings, "seed": base["seed"] + SEED_STEP * run}))
        # by its settings: a trial of a process that was killed is given to another one under another number
        settled = options.model_dump(mode="json")
        mark = hashlib.sha256(json.dumps(settled, sort_keys=True).encode()).hexdigest()[:12]
        with ExitStack() as stack:
            if self.folder is not None:
                stack.enter_context(checkpoints_in(self.folder / f".{self.study_name}-{mark}", options=settled))
            model = self.generator.fit(self.train, self.validation, options)
        if stopped := model.record.get("stopped"):
            trial.set_user_attr("note", stopped)
        rows = []
        for sampler in [{"sampler": s} for s in self.samplers] or [{}]:
            seed = self.sampling.seed + SEED_STEP * run
            try:
                profiles = model.sample(self.train.obs, seed=seed, batch_size=self.sampling.batch_size, **sampler)
            except ValueError as error:  # a training that diverged without saying so
                raise TrainingDivergedError(f"the profiles cannot be used: {error}") from error
            rows.append(self.objective.indicators(profiles))
        means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        return {**means, "value": self.objective.value(means), "seconds": time.perf_counter() - started}

    def _after(self, study: optuna.Study, trial: FrozenTrial) -> None:
        trials = study.get_trials(deepcopy=False)
        # by this trial's own number: processes that end at the same moment would draw the same by that of all trials
        self._seed_sampler(trial.number + 1)
        complete = [t for t in trials if t.state == TrialState.COMPLETE]
        logger.info(
            "%s: trial %d %s with %s, %d of %d done, best %s",
            self.name,
            trial.number,
            outcome(trial),
            trial.user_attrs["note"]
            if "diverged" in trial.user_attrs
            else f"{trial.value:.4f} in {trial.user_attrs['seconds']:.0f} s each",
            sum(t.state in COUNTED for t in trials),
            self.options.trials,
            f"{study.best_value:.4f} (trial {study.best_trial.number})" if complete else "none yet",
        )

    def found(self) -> Found | None:
        """The best completed trial and the table of all, from the storage; None while other processes work."""
        counted = self.study.get_trials(deepcopy=False, states=COUNTED)
        complete = [trial for trial in counted if trial.state == TrialState.COMPLETE]
        if not complete:
            notes = [trial.user_attrs["note"] for trial in counted if "diverged" in trial.user_attrs]
            if len(notes) >= self.options.trials:
                raise RuntimeError(
                    f"all {len(notes)} trials of {self.name} failed, the last one with: {notes[-1]} "
                    f"Mend the settings or `tuning.spaces.{self.name}`."
                )
            logger.info("%s: no trial is complete yet; run the search again to go on", self.name)
            return None
        best = self.study.best_trial
        current = [trial.value for trial in complete if trial.user_attrs["settings"] == self.current]
        return Found(
            settings=best.user_attrs["settings"],
            value=self.study.best_value,
            deviation=best.user_attrs.get("sd", math.nan),
            first=current[0] if current else None,
            table=self._table(),
            trials=sum(trial.state != TrialState.RUNNING for trial in counted),
            seconds=sum(trial.duration.total_seconds() for trial in counted if trial.duration is not None),
            study=self.study_name,
        )

    def _table(self) -> pd.DataFrame:
        """A row per trial: number, state, value, s.d. over seeds, settings, mean indicators, seconds per training."""
        columns = ("trial", "state", "value", "sd", *self.space, "f1", *COMPARED, "copying", "seconds", "note")
        rows = [
            {
                "note": "",
                **trial.user_attrs,
                **trial.user_attrs.get("settings", {}),
                "trial": trial.number,
                "state": outcome(trial),
            }
            for trial in self.study.get_trials(deepcopy=False)
        ]
        return pd.DataFrame(rows).reindex(columns=columns)


def outcome(trial: FrozenTrial) -> str:
    """The state of a trial in lower case; a diverged one is pruned for Optuna, so that it counts."""
    return "diverged" if "diverged" in trial.user_attrs else trial.state.name.lower()
