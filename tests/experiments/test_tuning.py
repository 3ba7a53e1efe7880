"""The search, on a generator so small that a trial takes milliseconds."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pwd
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState
from pydantic import Field

from transcriptome_diffusion.experiments import tuning
from transcriptome_diffusion.experiments.options import Dimension, TuningOptions
from transcriptome_diffusion.experiments.tuning import Search, ValidationObjective, current_settings, merged, nested
from transcriptome_diffusion.expression.profiles import dense, make_profiles
from transcriptome_diffusion.generators.base import Generator
from transcriptome_diffusion.generators.options import GeneratorOptions, SamplingOptions
from transcriptome_diffusion.metrics.copying import copying
from transcriptome_diffusion.metrics.fidelity import fidelity
from transcriptome_diffusion.metrics.options import EvaluationOptions, NeighbourOptions
from transcriptome_diffusion.metrics.statistics import matched
from transcriptome_diffusion.options import Options
from transcriptome_diffusion.training import TrainingDivergedError

GENES = 8
EVALUATION = EvaluationOptions(draws=3, neighbours=NeighbourOptions(landmarks=5))
SAMPLING = SamplingOptions(seed=3)


class NetOptions(Options):
    width: int = 4
    layers: list[int] = Field(default=[8, 8])


class ToyOptions(GeneratorOptions):
    noise: float = 1.0
    shift: float = 0.5
    breaks: bool = False
    net: NetOptions = NetOptions()


class Toy(Generator):
    """Training profiles with `noise` and `shift` added: no noise copies, much shift is far off; it may break."""

    name = "toy"
    fits: list[ToyOptions] = []  # noqa: RUF012

    @classmethod
    def fit(cls, train: ad.AnnData, validation: ad.AnnData, options: ToyOptions) -> Toy:
        cls.fits.append(options)
        if options.breaks:
            raise TrainingDivergedError("the loss is nan at step 7.")
        model = cls(**cls.checked(train, validation, options))
        model.values = dense(train)
        return model

    fit_model = fit  # without a marginal map

    def sample_codes(self, codes: np.ndarray, seed: int, batch_size: int) -> np.ndarray:
        noise = np.random.default_rng([seed, self.settings["seed"]]).normal(size=self.values.shape)
        return self.values + self.settings["shift"] + self.settings["noise"] * noise

    def state(self) -> dict[str, np.ndarray]:
        return {"values": self.values}

    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        self.values = tensors["values"]


def cohort(n: int, seed: int) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    tissue = np.array(["liver", "kidney"])[np.arange(n) % 2]
    values = rng.normal(size=(n, GENES)) + 3 * (tissue == "liver")[:, None] + 5
    names = [f"g{i}" for i in range(GENES)]
    obs = pd.DataFrame({"tissue": tissue}, index=[f"s{seed}-{i}" for i in range(n)])
    return make_profiles(values, obs, pd.DataFrame({"symbol": names}, index=names), "log2(FPKM + 1)")


TRAIN, VALIDATION = cohort(90, 1), cohort(40, 2)
SHIFT = {"shift": Dimension(kind="float", low=0, high=4)}


@pytest.fixture(autouse=True)
def no_fits_yet() -> None:
    Toy.fits.clear()


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss of power is no matter here, and most of the time would pass with it."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def searching(
    folder: Path, space: dict[str, Dimension] = SHIFT, base: ToyOptions | None = None, **options: Any
) -> Search:
    # a journal takes a quarter of the time of SQLite, which the tests of what storages do name themselves
    settings = {"trials": 4, "startup": 2, "storage": str(folder / "deep" / "studies.journal"), **options}
    return Search(
        "toy",
        Toy,
        base or ToyOptions(),
        options.get("train") or TRAIN,
        VALIDATION,
        TuningOptions(spaces={"toy": space}, **{k: v for k, v in settings.items() if k != "train"}),
        EVALUATION,
        SAMPLING,
    )


def finished(search: Search) -> list[optuna.trial.FrozenTrial]:
    return [trial for trial in search.study.get_trials() if trial.state.is_finished()]


# ------------------------------------------------------------------------------------ settings and spaces
def test_dotted_paths_and_nested_settings_are_two_spellings_of_one_thing():
    assert nested({"a.b": 1, "a.c.d": [2], "e": 3}) == {"a": {"b": 1, "c": {"d": [2]}}, "e": 3}
    before = {"a": {"b": 0, "keep": 1}, "e": 0}
    assert merged(before, {"a.b": 5, "e": [1]}) == {"a": {"b": 5, "keep": 1}, "e": [1]}
    assert before == {"a": {"b": 0, "keep": 1}, "e": 0}


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "float", "low": 1.0},
        {"kind": "float", "low": 2, "high": 1},
        {"kind": "float", "low": 0, "high": 1, "log": True},
        {"kind": "int", "low": 1, "high": 8, "log": True, "step": 2},
        {"kind": "int", "low": 1, "high": 2.5},
        {"kind": "categorical", "choices": [1]},
        {"kind": "categorical", "choices": [1, 2], "low": 1},
        {"kind": "float", "low": 0, "high": 1, "choices": [1, 2]},
        {"kind": "flaot", "low": 0, "high": 1},
    ],
)
def test_a_dimension_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="validation error"):
        Dimension.model_validate(wrong)


@pytest.mark.parametrize(
    ("dimension", "inside", "outside"),
    [
        (Dimension(kind="float", low=0.5, high=2), [0.5, 1, 2], [0.49, 2.1, None, "1", True]),
        (Dimension(kind="float", low=0, high=1, step=0.1), [0.3, 0.7], [0.25]),
        (Dimension(kind="int", low=2, high=9), [2, 9], [1, 10]),
        (Dimension(kind="int", low=64, high=256, step=64), [128], [100]),
        (Dimension(kind="categorical", choices=[None, [8, 8], "x"]), [None, [8, 8], "x"], [[8], 0]),
    ],
)
def test_a_dimension_knows_which_values_it_holds(dimension, inside, outside):
    assert all(dimension.holds(value) for value in inside)
    assert not any(dimension.holds(value) for value in outside)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({}, "no space"),
        ({"nois": Dimension(kind="float", low=0, high=2)}, "'nois'.*shift"),
        ({"net.widht": Dimension(kind="int", low=1, high=9)}, "net has.*width"),
        ({"noise.level": Dimension(kind="int", low=1, high=9)}, "its value is 1.0"),
        ({"net.width": Dimension(kind="categorical", choices=[4, "wide"])}, "'wide', which toy refuses"),
        ({"shift": Dimension(kind="float", low=1, high=2)}, "current value is 0.5"),
    ],
)
def test_a_space_that_does_not_fit_stops_the_search_before_its_first_trial(space, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        searching(tmp_path, space)
    assert not list(tmp_path.iterdir())


def test_current_settings_are_read_on_the_paths_of_the_space():
    space = {"net.layers": Dimension(kind="categorical", choices=[[4], [8, 8]]), **SHIFT}
    assert current_settings("toy", space, ToyOptions(shift=2.0)) == {"net.layers": [8, 8], "shift": 2.0}


def test_every_suggestion_lies_in_its_dimension_and_reaches_the_generator(tmp_path):
    space = {
        "noise": Dimension(kind="float", low=0.01, high=2, log=True),
        "shift": Dimension(kind="float", low=0, high=1, step=0.25),
        "net.width": Dimension(kind="int", low=2, high=8, step=2),
        "net.layers": Dimension(kind="categorical", choices=[[8, 8], [4], []]),
    }
    search = searching(tmp_path, space, trials=12, seeds=1, startup=4)
    search.run()
    tried = [trial.user_attrs["settings"] for trial in finished(search)]
    assert len({str(settings) for settings in tried}) > 6
    for settings, fit in zip(tried, Toy.fits, strict=True):
        assert all(space[path].holds(value) for path, value in settings.items())
        assert (fit.noise, fit.shift) == (settings["noise"], settings["shift"])
        assert fit.net == NetOptions(width=settings["net.width"], layers=settings["net.layers"])


# -------------------------------------------------------------------------------------------- objective
def objective(**options: Any) -> ValidationObjective:
    return ValidationObjective(TRAIN, VALIDATION, EVALUATION, TuningOptions(**options))


def test_f1_is_the_mean_over_matched_draws_against_validation_donors():
    mean, sd = dense(TRAIN).mean(0), dense(TRAIN).std(0)
    synthetic = cohort(90, 7)
    ours = [
        tuning.ProfileSet((dense(part) - mean) / sd, part.obs["tissue"].to_numpy()) for part in (VALIDATION, synthetic)
    ]
    draws = matched(*ours, ours[0], EVALUATION.draws, EVALUATION.seed)
    expected = np.mean([fidelity(real.values, fake.values, 5)["f1"] for real, fake in draws])
    found = objective().indicators(synthetic)
    assert found["f1"] == pytest.approx(expected)
    assert objective(copying_penalty=0).value(found) == pytest.approx(expected)


def test_copies_above_the_null_are_charged_for():
    copies = objective().indicators(TRAIN)
    train, validation = objective().train.values, objective().validation.values
    assert copies["copying"] == copying(train, train, validation) == 1.0
    for kind in ("f1", "likeness"):
        free, charged = (objective(objective=kind, copying_penalty=p).value(copies) for p in (0, 0.5))
        assert free - charged == pytest.approx(0.5 * 0.99)
    assert objective(copying_penalty=9).value({**copies, "copying": 0.01}) == pytest.approx(copies["f1"])


def test_likeness_is_zero_for_what_real_donors_score_and_falls_with_the_mean_distance():
    measured = objective(objective="likeness")
    real = {**measured.real, "copying": 0.0}
    assert measured.value(real) == 0
    off = {**real, "density": real["density"] + 0.7, "spread": real["spread"] - 0.7}
    assert measured.value(off) == pytest.approx(-1.4 / len(tuning.COMPARED))


def test_likeness_ranks_fresh_donors_above_shrunken_ones():
    measured = objective(objective="likeness")
    fresh = cohort(90, 9)
    shrunken = fresh.copy()
    centres = fresh.to_df().groupby(fresh.obs["tissue"].to_numpy()).transform("mean").to_numpy()
    shrunken.X = (centres + 0.5 * (fresh.X - centres)).astype(np.float32)
    assert measured.value(measured.indicators(fresh)) > measured.value(measured.indicators(shrunken)) + 0.05


# ----------------------------------------------------------------------------------------------- study
def test_the_first_trial_is_the_current_settings_so_the_result_is_never_worse(tmp_path):
    search = searching(tmp_path, base=ToyOptions(shift=0.12345678), trials=5)
    found = search.run()
    assert finished(search)[0].user_attrs["settings"] == {"shift": 0.12345678}
    assert found.first == finished(search)[0].value
    assert found.value >= found.first
    assert found.value == max(t.value for t in finished(search) if t.state == TrialState.COMPLETE)


def test_a_trial_is_the_mean_over_training_seeds_and_keeps_its_indicators(tmp_path):
    search = searching(tmp_path, trials=1, seeds=3)
    found = search.run()
    assert [fit.seed for fit in Toy.fits] == [0, 1000, 2000]
    values = []
    for run in range(3):
        model = Toy.fit(TRAIN, VALIDATION, ToyOptions(seed=1000 * run))
        indicators = search.objective.indicators(model.sample(TRAIN.obs, seed=SAMPLING.seed + 1000 * run))
        values.append(search.objective.value(indicators))
    assert found.value == pytest.approx(np.mean(values))
    assert found.deviation == pytest.approx(np.std(values, ddof=1))
    row = found.table.iloc[0]
    assert (row["trial"], row["state"], row["shift"], row["value"]) == (0, "complete", 0.5, found.value)
    kept = finished(search)[0].user_attrs
    for name in ("precision", "recall", "f1", "density", "coverage", "copying", "spread", "seconds"):
        assert row[name] == kept[name]
        assert np.isfinite(kept[name])


def test_the_search_finds_what_is_better(tmp_path):
    found = searching(tmp_path, base=ToyOptions(noise=0.3, shift=4.0), trials=20, seeds=1).run()
    assert found.value > found.first + 0.3
    assert found.settings["shift"] < 1.5


@pytest.mark.parametrize("storage", ["studies.db", "studies.journal"])
def test_a_finished_study_runs_no_more_trials_and_a_larger_one_only_the_missing_ones(storage, tmp_path):
    storage = str(tmp_path / storage)
    first = searching(tmp_path, storage=storage).run()
    fits = len(Toy.fits)
    again = searching(tmp_path, storage=storage).run()
    assert len(Toy.fits) == fits
    pd.testing.assert_frame_equal(first.table, again.table)
    more = searching(tmp_path, trials=6, storage=storage)
    more.run()
    assert len(finished(more)) == 6
    assert first.table.equals(more.found().table.iloc[:4])


def test_an_interrupted_search_goes_on_as_if_nothing_had_happened(tmp_path):
    whole = searching(tmp_path / "whole", trials=8).run()
    searching(tmp_path / "parts", trials=3).run()
    parts = searching(tmp_path / "parts", trials=8).run()
    pd.testing.assert_series_equal(whole.table["shift"], parts.table["shift"])


def test_once_the_best_is_in_the_parameters_the_study_is_still_the_same(tmp_path):
    found = searching(tmp_path).run()
    fits = len(Toy.fits)
    tuned = searching(tmp_path, base=ToyOptions.model_validate(merged(ToyOptions().model_dump(), found.settings)))
    assert tuned.run().settings == found.settings
    assert len(Toy.fits) == fits


@pytest.mark.parametrize(
    "changed",
    [
        {"base": ToyOptions(noise=0.7)},
        {"space": {"shift": Dimension(kind="float", low=0, high=3)}},
        {"objective": "likeness"},
        {"copying_penalty": 2.0},
        {"seeds": 3},
        {"train": cohort(90, 5)},
    ],
)
def test_what_changes_the_meaning_of_a_value_starts_a_study_of_its_own(changed, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="transcriptome_diffusion")
    before = searching(tmp_path)
    assert "this is a new one" not in caplog.text
    other = searching(tmp_path, **changed)
    assert other.study_name != before.study_name
    assert "earlier studies" in caplog.text


@pytest.mark.parametrize("same", [{"trials": 99}, {"seconds": 5}, {"pruner": "none"}, {"base": ToyOptions(shift=1.0)}])
def test_budget_pruner_and_searched_settings_do_not(same, tmp_path):
    assert searching(tmp_path, **same).study_name == searching(tmp_path).study_name


def test_a_diverging_training_ends_its_trial_and_not_the_search(tmp_path):
    space = {"breaks": Dimension(kind="categorical", choices=[False, True]), **SHIFT}
    search = searching(tmp_path, space, trials=10, startup=10)
    found = search.run()
    failed = [trial for trial in finished(search) if "diverged" in trial.user_attrs]
    assert len(finished(search)) == found.trials == 10
    assert 0 < len(failed) < 10
    assert {trial.user_attrs["note"] for trial in failed} == {"the loss is nan at step 7."}
    assert found.table.loc[found.table["state"] == "diverged", "note"].str.contains("nan at step 7").all()
    assert found.settings["breaks"] is False


def test_profiles_that_are_not_numbers_end_a_trial_as_well(tmp_path):
    space = {"noise": Dimension(kind="categorical", choices=[1.0, float("inf")])}
    search = searching(tmp_path, space, trials=6, startup=6)
    search.run()
    errors = [trial.user_attrs["note"] for trial in finished(search) if "diverged" in trial.user_attrs]
    assert errors
    assert all("NaN or infinite" in error for error in errors)


def test_a_search_in_which_everything_fails_says_so(tmp_path):
    space = {"shift": Dimension(kind="float", low=0, high=1)}
    with pytest.raises(RuntimeError, match=r"all 3 trials of toy failed.*nan at step 7"):
        searching(tmp_path, space, base=ToyOptions(breaks=True), trials=3).run()


def test_a_hopeless_trial_ends_after_its_first_training_unless_it_is_the_current_settings(tmp_path):
    space = {"shift": Dimension(kind="categorical", choices=[0.0, 0.1, 50.0])}
    search = searching(tmp_path, space, base=ToyOptions(shift=50.0), trials=12, startup=1)
    found = search.run()
    assert finished(search)[0].state == TrialState.COMPLETE
    pruned = [trial for trial in finished(search) if trial.state == TrialState.PRUNED]
    assert pruned
    assert {trial.last_step for trial in pruned} == {0}
    assert set(found.table.loc[found.table["state"] == "pruned", "value"].round(3)) <= {
        0.0,
        *found.table["value"].round(3),
    }
    unpruned = searching(tmp_path / "all", space, base=ToyOptions(shift=50.0), trials=12, startup=1, pruner="none")
    assert set(unpruned.run().table["state"]) == {"complete"}


def test_no_trial_begins_after_the_seconds_are_over(tmp_path):
    search = searching(tmp_path, trials=100_000, seconds=0.5)
    found = search.run()
    assert 1 <= found.trials < 1000


def test_an_interrupted_trial_does_not_count_and_the_current_settings_are_tried_again(tmp_path, monkeypatch):
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Toy, "fit", interrupt)
        with pytest.raises(KeyboardInterrupt):
            searching(tmp_path).run()
    found = searching(tmp_path).run()
    assert found.trials == 4
    assert found.table["state"].tolist()[:2] == ["fail", "complete"]
    assert found.table["shift"].tolist()[:2] == [0.5, 0.5]
    assert found.first == found.table["value"][1]


def work(folder: Path, barrier: Any, storage: str) -> None:
    barrier.wait()
    searching(folder, trials=9, seeds=1, storage=storage).run()


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL server of its own, which listens on no port."""
    pytest.importorskip("psycopg")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    control = shutil.which("pg_ctl", path=os.pathsep.join([os.environ["PATH"], *map(str, folders)]))
    if control is None:
        pytest.skip("no PostgreSQL server (initdb, pg_ctl) is installed")
    programs, owner = Path(control).resolve().parent, {}
    with tempfile.TemporaryDirectory(prefix="postgresql-", ignore_cleanup_errors=True) as folder:
        if os.geteuid() == 0:  # it refuses to run as root
            nobody = pwd.getpwnam("nobody")
            owner = {"user": nobody.pw_uid, "group": nobody.pw_gid}
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)

        def run(program: str, *arguments: str) -> None:
            subprocess.run([programs / program, "-D", f"{folder}/data", *arguments], cwd=folder, check=True, **owner)

        run("initdb", "-A", "trust", "-U", "optuna", "--no-sync", "--no-instructions")
        server = f"-k {folder} -c listen_addresses= -c fsync=off"
        run("pg_ctl", "start", "-w", "-l", f"{folder}/log", "-o", server)
        try:
            yield f"postgresql:///postgres?host={folder}&user=optuna"
        finally:
            run("pg_ctl", "stop", "-w", "-m", "immediate")


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")  # filters are shared by threads
@pytest.mark.parametrize(
    ("kind", "storage"),
    [
        ("thread", "studies.db"),
        ("process", "studies.db"),
        ("thread", "studies.journal"),
        pytest.param("process", "postgresql", marks=pytest.mark.slow),
    ],
)
def test_workers_share_one_study_to_the_trial(kind, storage, tmp_path, request):
    storage = request.getfixturevalue(storage) if storage == "postgresql" else str(tmp_path / storage)
    if kind == "thread":
        barrier: Any = threading.Barrier(2)
        other: Any = threading.Thread(target=work, args=(tmp_path, barrier, storage))
    else:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([tuning.__name__])  # imported once for all tests with a process
        barrier = context.Barrier(2)
        other = context.Process(target=work, args=(tmp_path, barrier, storage))
    other.start()
    work(tmp_path, barrier, storage)
    other.join()
    trials = searching(tmp_path, trials=9, seeds=1, storage=storage).study.get_trials()
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert 9 <= len(trials) <= 10  # both may finish in the same instant, and both begin the last one
    # what either draws follows from how many trials there are: they search, and do not repeat each other
    assert len({trial.user_attrs["settings"]["shift"] for trial in trials}) >= 7
    assert sum(trial.user_attrs["settings"]["shift"] == 0.5 for trial in trials) == 1


def test_a_server_whose_driver_is_missing_is_answered_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ImportError, match=r"PostgreSQL.*pip install 'transcriptome-diffusion\[cluster\]'"):
        searching(tmp_path, storage="postgresql://localhost/studies")


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_killed_trial_does_not_count_and_is_done_again(tmp_path):
    storage = str(tmp_path / "deep" / "studies.db")
    search = searching(tmp_path, trials=2, seeds=1, storage=storage)
    killed = search.study.ask()
    tuning.suggest(killed, "shift", SHIFT["shift"])
    killed.storage.record_heartbeat(killed._trial_id)
    # while it seems alive it is left alone, and the current settings are not tried a second time
    assert [trial.state for trial in searching(tmp_path, trials=2, seeds=1, storage=storage).study.get_trials()] == [
        TrialState.RUNNING
    ]
    with closing(sqlite3.connect(search.options.storage)) as connection, connection:
        connection.execute("UPDATE trial_heartbeats SET heartbeat = '2000-01-01 00:00:00'")
    found = searching(tmp_path, trials=2, seeds=1, storage=storage).run()
    assert found.trials == 2
    assert found.table["state"].tolist() == ["fail", "complete", "complete"]
    assert found.table["shift"].tolist()[:2] == [0.5, 0.5]


def test_one_line_per_trial_and_nothing_of_optuna(tmp_path, caplog, capfd):
    caplog.set_level(logging.INFO, logger="transcriptome_diffusion")
    searching(tmp_path, trials=3, seeds=1).run()
    lines = [record.getMessage() for record in caplog.records if ": trial " in record.getMessage()]
    assert len(lines) == 3
    assert "3 of 3 done, best" in lines[-1]
    assert "Trial" not in capfd.readouterr().err
