"""The search for a generator's settings: trials on validation donors, kept in SQLite, shared and resumed.

Optuna (Akiba et al. 2019, doi:10.1145/3292500.3330701) proposes settings with a multivariate tree-structured Parzen
estimator (Bergstra et al. 2011, NeurIPS 24). A trial trains the generator on training donors several times with
different seeds, draws one profile per training sample, and scores them against validation donors. Nothing here ever
sees a held-out donor of the scorecard.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import sqlite3
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState
from pydantic import BaseModel, ValidationError

from transcriptome_diffusion.experiments.options import Dimension, TuningOptions
from transcriptome_diffusion.expression.profiles import dense
from transcriptome_diffusion.expression.scaling import GeneScaler
from transcriptome_diffusion.generators.base import Generator
from transcriptome_diffusion.generators.options import SamplerOptions, SamplingOptions
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
#: seconds between two signs of life of a running trial, and after which silence it is given to another process
HEARTBEAT, SILENCE = 30, 120
#: seconds to wait for another process's turn, or for its writing
PATIENCE = 300
#: marks the trial that repeats what the parameters say now
CURRENT = "current"


# ------------------------------------------------------------------------------------ settings and spaces
def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """``{"network.width": 64}`` as ``{"network": {"width": 64}}``."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, last = path.split(".")
        branch = tree
        for name in parents:
            branch = branch.setdefault(name, {})
        branch[last] = value
    return tree


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
    result = copy.deepcopy(dict(settings))
    for path, value in flat.items():
        lookup(result, path)
        parent, _, last = path.rpartition(".")
        (lookup(result, parent) if parent else result)[last] = value
    return result


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
    if trial.user_attrs.get(CURRENT) or dimension.step is not None:
        return value
    # three digits are all a search can tell apart, and what a person wants to read in a parameters file
    return min(max(float(f"{value:.3g}"), low), high)


def as_parameter(value: Any, dimension: Dimension) -> Any:
    """The value under which Optuna would store ``value``, the reverse of ``suggest``."""
    if dimension.choices is None:
        return value
    return json.dumps(dimension.choices[dimension.choices.index(value)])


# -------------------------------------------------------------------------------------------- objective
class Judge:
    """Indicators of synthetic profiles against validation donors, and the one number a search climbs.

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
def identity(train: ad.AnnData, validation: ad.AnnData, **facts: Any) -> str:
    """Twelve hexadecimal digits of all that decides what a trial's value means."""
    profiles = fingerprint(train, validation, Options())
    return hashlib.sha256(json.dumps([profiles, facts], sort_keys=True).encode()).hexdigest()[:12]


def is_finished(trial: FrozenTrial) -> bool:
    """Whether a trial counts towards ``trials``: completed, pruned, or failed with a reason; not if it was killed."""
    if trial.state == TrialState.FAIL:
        return "error" in trial.user_attrs
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


@contextmanager
def one_at_a_time(storage: Path) -> Iterator[None]:
    """Exclude other processes: an SQLite lock on a file beside ``storage``, which a killed process gives back."""
    with closing(sqlite3.connect(f"{storage}.lock", timeout=PATIENCE, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back what Optuna and the single trainings report; a search says one line per trial."""
    package = __name__.partition(".")[0]
    levels = {"optuna": logging.CRITICAL, f"{package}.training": logging.WARNING}
    levels[f"{package}.generators"] = logging.WARNING
    before = {name: logging.getLogger(name).level for name in levels}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        try:
            yield
        finally:
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)


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
        self.name, self.generator, self.base = name, generator, base
        self.train, self.validation = train, validation
        self.options, self.sampling, self.samplers = options, sampling, tuple(samplers)
        self.space = options.spaces.get(name, {})
        self.current = current_settings(name, self.space, base)
        self.judge = Judge(train, validation, evaluation, options)
        meaning = identity(
            train,
            validation,
            space={path: dimension.model_dump() for path, dimension in self.space.items()},
            fixed=merged(base.model_dump(mode="json"), dict.fromkeys(self.space)),
            judged=evaluation.model_dump(mode="json", include={"label", "draws", "neighbours", "seed"}),
            objective=options.model_dump(mode="json", include={"objective", "copying_penalty", "seeds"}),
            drawn=[block.model_dump(mode="json") for block in (sampling, *self.samplers)],
        )
        self.study_name = f"{name}-{meaning}"
        self.storage = Path(options.storage)
        self.storage.parent.mkdir(parents=True, exist_ok=True)
        with quiet(), one_at_a_time(self.storage):
            self.study = self._open()

    def _open(self) -> optuna.Study:
        """The study, new or as it was left, with the current settings waiting unless they were tried before."""
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{self.storage}",
            engine_kwargs={"connect_args": {"timeout": PATIENCE}},
            heartbeat_interval=HEARTBEAT,
            grace_period=SILENCE,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=1),
        )
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if self.options.pruner == "median":
            pruner = optuna.pruners.MedianPruner(n_startup_trials=self.options.startup)
        others = [s for s in optuna.get_all_study_names(storage) if s.rpartition("-")[0] == self.name]
        study = optuna.create_study(
            storage=storage, study_name=self.study_name, direction="maximize", pruner=pruner, load_if_exists=True
        )
        trials = study.get_trials(deepcopy=False)
        if others and self.study_name not in others:
            logger.info(
                "%s: the %d earlier studies in %s had another cohort, space, objective or fixed settings; this "
                "is a new one",
                self.name,
                len(others),
                self.storage,
            )
        logger.info(
            "%s: study %s in %s has %d of %d trials",
            self.name,
            self.study_name,
            self.storage,
            sum(map(is_finished, trials)),
            self.options.trials,
        )
        alive = [t for t in trials if is_finished(t) or t.state in (TrialState.RUNNING, TrialState.WAITING)]
        if not any(t.user_attrs.get("settings") == self.current for t in alive):
            parameters = {path: as_parameter(value, self.space[path]) for path, value in self.current.items()}
            study.enqueue_trial(parameters, user_attrs={CURRENT: True, "settings": self.current})
        return study

    def run(self) -> Found | None:
        """Work on the study until it has ``trials`` finished ones, or ``seconds`` are over.

        Trials that other processes are working on count as taken. A training that diverges ends its trial, not
        the search.

        Returns:
            The best trial so far; None while no process has completed one.

        Raises:
            RuntimeError: if all trials are done and every one of them failed.
        """
        started = time.monotonic()
        with quiet():
            while self.options.seconds is None or time.monotonic() - started < self.options.seconds:
                # the lock is held until the trial is running, so that no two processes take the last one
                with ExitStack() as turn:
                    turn.enter_context(one_at_a_time(self.storage))
                    optuna.storages.fail_stale_trials(self.study)
                    trials = self.study.get_trials(deepcopy=False)
                    running = sum(t.state == TrialState.RUNNING for t in trials)
                    if running + sum(map(is_finished, trials)) >= self.options.trials:
                        if running:
                            logger.info("%s: the last %d trials are with other processes", self.name, running)
                        break
                    self.study.sampler = self._sampler(len(trials))
                    self.study.optimize(
                        partial(self._objective, turn),
                        n_trials=1,
                        catch=(TrainingDivergedError, ValidationError),
                        callbacks=[self._announce],
                    )
        return self.found()

    def _sampler(self, trials: int) -> optuna.samplers.BaseSampler:
        # a seed per trial: processes differ, and a resumed search goes on as an uninterrupted one
        return optuna.samplers.TPESampler(
            n_startup_trials=self.options.startup,
            multivariate=True,
            constant_liar=True,
            seed=self.options.seed + trials,
        )

    def _objective(self, turn: ExitStack, trial: optuna.Trial) -> float:
        settings = {path: suggest(trial, path, dimension) for path, dimension in self.space.items()}
        trial.set_user_attr("settings", settings)
        turn.close()
        rows: list[dict[str, float]] = []
        for run in range(self.options.seeds):
            try:
                rows.append(self._train(settings, run, trial))
            except (TrainingDivergedError, ValidationError) as error:
                trial.set_user_attr("error", str(error))
                raise
            means = pd.DataFrame(rows).mean()
            trial.set_user_attr("values", [row["value"] for row in rows])
            for name in means.index.drop("value"):
                trial.set_user_attr(name, float(means[name]))
            trial.report(float(means["value"]), run)
            last = run + 1 == self.options.seeds
            if not last and not trial.user_attrs.get(CURRENT) and trial.should_prune():
                raise optuna.TrialPruned
        return float(means["value"])

    def _train(self, settings: Mapping[str, Any], run: int, trial: optuna.Trial) -> dict[str, float]:
        """Indicators, value and seconds of one training; every run has seeds of its own, the same in all trials."""
        started = time.perf_counter()
        base = self.base.model_dump(mode="json")
        options = type(self.base).model_validate(merged(base, {**settings, "seed": base["seed"] + SEED_STEP * run}))
        model = self.generator.fit(self.train, self.validation, options)
        if stopped := model.record.get("stopped"):
            trial.set_user_attr("stopped", stopped)
        rows = []
        for sampler in [{"sampler": s} for s in self.samplers] or [{}]:
            try:
                profiles = model.sample(
                    self.train.obs,
                    seed=self.sampling.seed + SEED_STEP * run,
                    batch_size=self.sampling.batch_size,
                    **sampler,
                )
            except ValueError as error:  # a training that ended in a wreck without saying so
                raise TrainingDivergedError(f"the profiles cannot be used: {error}") from error
            rows.append(self.judge.indicators(profiles))
        means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        return {**means, "value": self.judge.value(means), "seconds": time.perf_counter() - started}

    def _announce(self, study: optuna.Study, trial: FrozenTrial) -> None:
        trials = study.get_trials(deepcopy=False)
        complete = [t for t in trials if t.state == TrialState.COMPLETE]
        best = max(complete, key=_value_of, default=None)
        logger.info(
            "%s: trial %d %s with %s, %d of %d done, best %s",
            self.name,
            trial.number,
            {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}.get(trial.state, "failed"),
            trial.user_attrs.get("error")
            or f"{_value_of(trial):.4f} in {trial.user_attrs.get('seconds', 0):.0f} s each",
            sum(map(is_finished, trials)),
            self.options.trials,
            "none yet" if best is None else f"{_value_of(best):.4f} (trial {best.number})",
        )

    def found(self) -> Found | None:
        """The best completed trial and the table of all, from the storage; None while other processes work."""
        trials = self.study.get_trials(deepcopy=False)
        complete = [t for t in trials if t.state == TrialState.COMPLETE]
        if not complete:
            reasons = [t.user_attrs["error"] for t in trials if "error" in t.user_attrs]
            if len(reasons) >= self.options.trials:
                raise RuntimeError(
                    f"all {len(reasons)} trials of {self.name} failed, the last one with: {reasons[-1]} "
                    f"Mend the settings or `tuning.spaces.{self.name}`."
                )
            logger.info("%s: no trial is complete yet; run the search again to go on", self.name)
            return None
        best = max(complete, key=_value_of)
        current = [t for t in complete if t.user_attrs["settings"] == self.current]
        return Found(
            settings=best.user_attrs["settings"],
            value=_value_of(best),
            deviation=_deviation(best),
            first=_value_of(current[0]) if current else None,
            table=self._table(trials),
            trials=sum(map(is_finished, trials)),
            seconds=sum(t.duration.total_seconds() for t in trials if t.duration is not None),
            study=self.study_name,
        )

    def _table(self, trials: Sequence[FrozenTrial]) -> pd.DataFrame:
        """A row per trial: number, state, value, s.d. over seeds, settings, mean indicators, seconds per training."""
        measured = ("f1", *COMPARED, "copying", "seconds")
        rows = [
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                "value": _value_of(trial),
                "sd": _deviation(trial),
                **{path: trial.user_attrs.get("settings", {}).get(path) for path in self.space},
                **{name: trial.user_attrs.get(name, math.nan) for name in measured},
                "note": trial.user_attrs.get("error") or trial.user_attrs.get("stopped") or "",
            }
            for trial in trials
        ]
        return pd.DataFrame(rows)


def _value_of(trial: FrozenTrial) -> float:
    """Mean over the seeds that were trained, also of a trial that was pruned or failed; NaN if there was none."""
    return float(np.mean(trial.user_attrs["values"])) if "values" in trial.user_attrs else math.nan


def _deviation(trial: FrozenTrial) -> float:
    values = trial.user_attrs.get("values", [])
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
