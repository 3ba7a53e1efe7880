"""Runs of one generator: seeds, resume, what lies in the folder, and drawing from all of them."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion import checkpoints
from transcriptome_diffusion.checkpoints import TrainingDivergedError
from transcriptome_diffusion.expression.profiles import make_profiles, split_runs
from transcriptome_diffusion.generators.class_gaussian import ClassGaussian
from transcriptome_diffusion.generators.options import ClassGaussianOptions
from transcriptome_diffusion.generators.runs import Runs, TrainedModel, draw_runs, fingerprint, trainings


def cohort(seed: int, n: int = 40) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame({"tissue": rng.choice(["liver", "lung"], n)}, index=[f"s{i}" for i in range(n)])
    names = [f"g{i}" for i in range(3)]
    return make_profiles(rng.normal(size=(n, 3)), obs, pd.DataFrame({"symbol": names}, index=names), "log2(TPM + 1)")


class Counting(ClassGaussian):
    """Counts how often it is fitted, and with which seeds."""

    seeds: list[int] = []  # noqa: RUF012

    @classmethod
    def fit(cls, train: ad.AnnData, validation: ad.AnnData, options: ClassGaussianOptions) -> Counting:
        cls.seeds.append(options.seed)
        return super().fit(train, validation, options)


@pytest.fixture
def options() -> ClassGaussianOptions:
    Counting.seeds.clear()
    return ClassGaussianOptions(seed=7)


def save(folder: Path, runs: int, options: ClassGaussianOptions, resume: bool = False) -> Runs:
    for training in trainings(Counting, {"landmarks": (cohort(0), cohort(1), options)}, runs, resume):
        training.save(folder)
    return Runs(folder)


def test_every_run_has_a_seed_of_its_own_and_the_first_is_that_of_a_single_run(tmp_path, options):
    save(tmp_path / "three", 3, options)
    assert Counting.seeds == [7, 1007, 2007]
    save(tmp_path / "one", 1, options)
    assert Counting.seeds[3:] == [7]


def test_fewer_runs_leave_the_others_for_a_command_that_resumes(tmp_path, options):
    save(tmp_path, 5, options)
    one = save(tmp_path, 1, options, resume=True)
    assert [model.record["run"] for model in one] == [1]
    save(tmp_path, 3, options, resume=True)
    assert Counting.seeds == [7, 1007, 2007, 3007, 4007]
    assert len(Runs(tmp_path)) == 3


def test_finished_runs_are_not_repeated_and_the_missing_ones_are_trained(tmp_path, options):
    save(tmp_path, 2, options)
    again = save(tmp_path, 3, options, resume=True)
    assert Counting.seeds == [7, 1007, 2007]
    assert [model.record["run"] for model in again] == [1, 2, 3]
    assert {model.record["runs"] for model in again} == {3}


def test_without_resume_everything_is_trained_again(tmp_path, options):
    save(tmp_path, 2, options)
    save(tmp_path, 2, options)
    assert Counting.seeds == [7, 1007, 7, 1007]


def test_a_model_of_both_spaces_is_complete_when_the_last_training_is_there(tmp_path, options):
    data = {space: (cohort(0), cohort(1), options) for space in ("landmarks", "transcriptome")}
    *first, last = trainings(Counting, data, runs=2)
    assert not TrainedModel(tmp_path).complete
    for training in first:
        training.save(tmp_path)
        assert not TrainedModel(tmp_path).complete
    last.save(tmp_path)
    model = TrainedModel(tmp_path)
    assert model.complete
    assert [len(model.landmarks), len(model.transcriptome)] == [2, 2]
    assert (tmp_path / "transcriptome" / "run_2" / "model.json").exists()


def test_records_are_read_without_the_weights(tmp_path, options):
    models = save(tmp_path, 2, options)
    expected = [model.record for model in models]
    for folder in models.folders:
        (folder / "tensors.safetensors").unlink()
    assert models.records() == expected


def test_a_broken_run_is_trained_again(tmp_path, options, caplog):
    first = save(tmp_path, 2, options)
    (first.folders[0] / "model.json").write_text("{")
    save(tmp_path, 2, options, resume=True)
    assert Counting.seeds == [7, 1007, 7]
    assert "trained again" in caplog.text


class Training(ClassGaussian):
    """Says where its checkpoints go, and is interrupted while it leaves one there."""

    interrupted = True

    @classmethod
    def fit(cls, train: ad.AnnData, validation: ad.AnnData, options: ClassGaussianOptions) -> Training:
        found = checkpoints.current()
        assert found is not None
        assert found.about == {"options": options.model_dump(mode="json")}
        found.folder.mkdir(parents=True, exist_ok=True)
        (found.folder / "x.ckpt").touch(exist_ok=not cls.interrupted)
        if cls.interrupted:
            raise KeyboardInterrupt
        return super().fit(train, validation, options)


def test_every_training_has_a_folder_for_checkpoints_that_goes_with_its_end(tmp_path, options, monkeypatch):
    data = {space: (cohort(0), cohort(1), options) for space in ("landmarks", "transcriptome")}
    for training in trainings(Training, data, runs=2):
        with pytest.raises(KeyboardInterrupt):
            training.save(tmp_path)
    assert len(list(tmp_path.rglob("*.ckpt"))) == 4
    assert len(Runs(tmp_path)) == 0
    monkeypatch.setattr(Training, "interrupted", False)
    for training in trainings(Training, data, runs=2):
        training.save(tmp_path)
    assert not list(tmp_path.rglob(".*"))
    assert checkpoints.current() is None


class Diverging(Counting):
    """The second run and all on all genes break down."""

    @classmethod
    def fit(cls, train: ad.AnnData, validation: ad.AnnData, options: ClassGaussianOptions) -> Diverging:
        if options.seed in (1007, 8):
            raise TrainingDivergedError("the loss is nan")
        return super().fit(train, validation, options)


def test_a_training_that_diverges_leaves_the_reason_and_not_an_end(tmp_path, options):
    other = options.model_copy(update={"seed": 8})
    data = {"landmarks": (cohort(0), cohort(1), options), "transcriptome": (cohort(0), cohort(1), other)}
    for training in trainings(Diverging, data, runs=1):
        training.save(tmp_path)
    model = TrainedModel(tmp_path)
    assert model.complete
    assert (len(model.landmarks), model.landmarks.why) == (1, "")
    assert (len(model.transcriptome), model.transcriptome.why) == (0, "the loss is nan")
    assert model.transcriptome.records()[0]["stopped"] == "the loss is nan"
    for training in trainings(Diverging, {"landmarks": (cohort(0), cohort(1), options)}, runs=3):
        training.save(tmp_path)
    runs = Runs(tmp_path)
    assert [folder.name for folder in runs.folders] == ["run_1", "run_3"]
    assert (runs.tried, runs.why) == (3, "the loss is nan")
    assert TrainedModel(tmp_path).complete
    for training in trainings(Counting, {"landmarks": (cohort(0), cohort(1), options)}, runs=3):
        training.save(tmp_path)
    assert (len(Runs(tmp_path)), Runs(tmp_path).why) == (3, "")


@pytest.mark.parametrize("change", ["value", "label", "validation", "setting", "unit", "gene"])
def test_the_fingerprint_knows_all_that_decides_a_training(options, change):
    train, validation = cohort(0), cohort(1)
    before = fingerprint(train, validation, options)
    assert before == fingerprint(train.copy(), validation.copy(), options.model_copy())
    if change == "value":
        train.X[3, 1] += 1e-4
    elif change == "label":
        train.obs["tissue"] = train.obs["tissue"].map({"liver": "lung", "lung": "liver"})
    elif change == "validation":
        validation = cohort(2)
    elif change == "setting":
        options = options.model_copy(update={"min_samples": 11})
    elif change == "unit":
        train.uns["unit"] = "log2(FPKM + 1)"
    else:
        train.var_names = ["g0", "g1", "gx"]
    assert fingerprint(train, validation, options) != before


@pytest.mark.parametrize("runs", [0, -1, 1.5, "3", True])
def test_an_impossible_number_of_runs_is_refused(options, runs):
    with pytest.raises(ValueError, match="number of trainings"):
        next(trainings(Counting, {"landmarks": (cohort(0), cohort(1), options)}, runs))


def test_runs_are_read_in_the_order_of_their_numbers(tmp_path, options):
    model = Counting.fit(cohort(0), cohort(1), options)
    for run in (10, 2, 1):
        model.save(tmp_path / f"run_{run}")
    (tmp_path / ".run_3-x").mkdir()
    (tmp_path / "run_0").mkdir()
    assert [folder.name for folder in Runs(tmp_path).folders] == ["run_1", "run_2", "run_10"]
    assert len(Runs(tmp_path / "nowhere")) == 0


def test_profiles_of_all_runs_come_back_run_by_run(tmp_path, options):
    models = save(tmp_path, 3, options)
    labels = cohort(0).obs
    drawn = draw_runs(models, labels, seed=5, batch_size=16)
    assert drawn.shape == (120, 3)
    assert drawn.obs_names.is_unique
    assert drawn.uns["generator"]["runs"] == 3
    parts = dict(split_runs(drawn))
    assert list(parts) == [1, 2, 3]
    np.testing.assert_array_equal(parts[1].X, models[0].sample(labels, seed=5).X)
    assert not np.allclose(parts[1].X, parts[2].X)
    for part in parts.values():
        assert part.obs["tissue"].tolist() == labels["tissue"].tolist()


def test_profiles_that_know_no_runs_are_one(options):
    [(run, part)] = split_runs(cohort(0))
    assert run == 1
    assert part.n_obs == 40
