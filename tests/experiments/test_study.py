"""Samplers by number of steps: what is drawn, with which seeds, and what the indicators say of known profiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.experiments.study import COLUMNS, FIDELITY, compare_steps, indicators
from transcriptome_diffusion.expression.profiles import make_profiles, split_runs
from transcriptome_diffusion.generators.diffusion.model import Diffusion
from transcriptome_diffusion.generators.options import DiffusionOptions, SamplerOptions, SamplingOptions
from transcriptome_diffusion.generators.runs import draw_runs
from transcriptome_diffusion.metrics.fidelity import LEAST, fidelity
from transcriptome_diffusion.metrics.options import ClassifierOptions, EvaluationOptions
from transcriptome_diffusion.metrics.profile_set import ProfileSet
from transcriptome_diffusion.metrics.reference import SpaceReference
from transcriptome_diffusion.metrics.statistics import matched

GENES = 6
SAMPLING = SamplingOptions(seed=5, batch_size=64)
FRECHET = ("frechet_classifier", "frechet_pca")
EVALUATION = EvaluationOptions(
    seed=1,
    draws=2,
    neighbours={"landmarks": 5, "transcriptome": 5},
    components=GENES,
    classifier=ClassifierOptions(hidden=[8], epochs=3),
)


def cohort(seed: int, n: int = 120) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    tissue = rng.choice(["liver", "lung"], n)
    values = rng.normal(size=(n, GENES)) + 3.0 * (tissue == "liver")[:, None] + 8.0
    names = [f"g{i}" for i in range(GENES)]
    obs = pd.DataFrame({"tissue": tissue}, index=[f"s{i}" for i in range(n)])
    return make_profiles(values, obs, pd.DataFrame({"symbol": names}, index=names), "log2(TPM + 1)")


@pytest.fixture(scope="module")
def models() -> list[Diffusion]:
    options = {
        "network": {"width": 16, "depth": 1, "embedding_dim": 8},
        "training": {"max_steps": 20, "validate_every": 10, "batch_size": 64, "precision": "float32"},
    }
    return [
        Diffusion.fit(cohort(0), cohort(1, 40), DiffusionOptions.model_validate({**options, "seed": seed}))
        for seed in (0, 1000)
    ]


@pytest.fixture(scope="module")
def reference() -> SpaceReference:
    profiles = {"train": cohort(0), "validation": cohort(1, 40), "test": cohort(2, 60)}
    return SpaceReference.fit(profiles, {}, EVALUATION)


@pytest.fixture(scope="module")
def measured(reference) -> Callable[[ad.AnnData], ProfileSet]:
    return reference.measure


@pytest.fixture
def compared(reference) -> Callable[[Any, list[int]], pd.DataFrame]:
    def compare(models: Any, steps: list[int]) -> pd.DataFrame:
        sampler = SamplerOptions(name="ddim", steps=7)
        return compare_steps(models, sampler, steps, cohort(0), reference, SAMPLING, EVALUATION)

    return compare


def test_the_samplers_own_number_of_steps_gives_the_values_of_the_scorecard(models, measured, compared):
    table = compared(models, [7]).query("reference == 'test' and metric in @FIDELITY")
    found = table.set_index(["run", "draw", "metric"])["value"].to_dict()
    compared_with = set()
    drawn = draw_runs(models, cohort(0).obs, SAMPLING.seed, 64, sampler=SamplerOptions(name="ddim", steps=7))
    test = measured(cohort(2, 60))
    for run, part in split_runs(drawn):
        for draw, (ours, theirs) in enumerate(matched(test, measured(part), test, EVALUATION.draws, EVALUATION.seed)):
            for metric, expected in fidelity(ours.values, theirs.values, 5).items():
                if metric in FIDELITY:
                    assert found[run, draw, metric] == expected, metric
                    compared_with.add((run, draw, metric))
    assert compared_with == set(found)


def test_every_training_is_sampled_with_every_number_of_steps_and_timed(models, compared):
    table = compared(models, [9, 3, 3])
    assert list(table.columns) == COLUMNS
    assert table[["run", "steps"]].drop_duplicates().to_numpy().tolist() == [[1, 3], [1, 9], [2, 3], [2, 9]]
    per_draw = {"precision", "recall", "f1", "adversarial_accuracy", "correlation", *FRECHET}
    for (_, _, reference), part in table.groupby(["run", "steps", "reference"]):
        assert set(part["metric"]) == (per_draw if reference != "none" else {"seconds", "seconds_per_1000"})
    seconds = table[table["reference"] == "none"].pivot_table(index=["run", "steps"], columns="metric", values="value")
    np.testing.assert_allclose(seconds["seconds_per_1000"], 1000 * seconds["seconds"] / 120)
    assert (seconds["seconds"] > 0).all()
    assert table["device"].str.startswith("cpu (").all() or table["device"].nunique() == 1


def test_models_are_read_one_by_one_and_never_see_a_held_out_donor(models, compared):
    read: list[int] = []

    class Watched(Diffusion):
        def __init__(self, inner: Diffusion) -> None:
            self.inner = inner

        def sample(self, labels: pd.DataFrame, *args: Any, **how: Any) -> ad.AnnData:
            assert set(labels.index) <= set(cohort(0).obs_names)
            assert labels["tissue"].tolist() == cohort(0).obs["tissue"].tolist()[: len(labels)]
            return self.inner.sample(labels, *args, **how)

    class Folder(list):
        def __iter__(self) -> Any:
            for index, model in enumerate(super().__iter__()):
                read.append(index)
                yield Watched(model)

    compared(Folder(models), [3, 4])
    assert read == [0, 1]


def test_more_steps_than_the_denoiser_has_timesteps_are_refused(models, compared):
    with pytest.raises(ValueError, match="the schedule has 1000 timesteps"):
        compared(models, [3, 1001])


def test_copies_of_the_training_profiles_are_perfect_but_for_their_adversarial_accuracy(measured):
    train = measured(cohort(0))
    real = {"train": train, "test": train}  # of the size of train, so that a matched draw is all of it
    found = indicators(train, real, EVALUATION)
    values = pd.DataFrame(found, columns=["reference", "metric", "draw", "value", "n"]).groupby("metric")["value"]
    expected = {"precision": 1, "recall": 1, "f1": 1, "adversarial_accuracy": 0, "correlation": 1}
    expected |= dict.fromkeys(FRECHET, 0)
    assert set(values.groups) == set(expected)
    for metric, value in expected.items():
        np.testing.assert_allclose(values.get_group(metric), value, atol=1e-4, err_msg=metric)


def test_a_shift_of_one_gene_is_its_squared_length_in_all_principal_axes(measured, reference):
    train, shifted = measured(cohort(0)), cohort(0)
    shifted.X[:, 0] += 3 * reference.scaler.scale[0]
    shifted = measured(shifted)
    found = pd.DataFrame(indicators(shifted, {"test": train}, EVALUATION)).set_index(1)[3]
    np.testing.assert_allclose(found["frechet_pca"], 9, rtol=1e-4)
    assert (found["frechet_classifier"] > 1e-3).all()


def test_too_few_profiles_leave_the_indicators_of_neighbours_empty(measured):
    few = measured(cohort(3, LEAST - 1))
    found = pd.DataFrame(indicators(measured(cohort(0)), {"test": few}, EVALUATION)).groupby(1)[3].mean()
    assert found[["precision", "recall", "f1", "adversarial_accuracy"]].isna().all()
    assert np.isfinite(found["correlation"])
