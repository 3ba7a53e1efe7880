"""What a run with large networks will take, and when that is said."""

from __future__ import annotations

import logging
import re
from functools import cache, reduce
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kedro.config import OmegaConfigLoader
from kedro.framework.project import pipelines as registered
from kedro.framework.project import settings
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog

from transcriptome_diffusion import training_cost
from transcriptome_diffusion.datasets import TrainedModelDataset
from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.hooks import WAITING, RunHooks
from transcriptome_diffusion.pipelines.cost import RunCost, Sizes, counted, sizes_after, sizes_at_start
from transcriptome_diffusion.pipelines.generators import Fit

#: of docs/paper.md
GTEX = Sizes(9795, 2449, {"landmarks": 974, "transcriptome": 18_691}, 26)
TCGA = Sizes(6499, 1625, {"landmarks": 978, "transcriptome": 20_531}, 24)


@pytest.fixture(scope="module")
def pipelines(project):
    bootstrap_project(project)
    return dict(registered)


@pytest.fixture(scope="module")
def parameters(project, pipelines):
    """By environment and parameters of the command line, a function that gives a parameter by its name."""

    @cache
    def of(environment: str, **runtime_params: Any) -> Any:
        conf = OmegaConfigLoader(
            str(project / "conf"), env=environment, runtime_params=runtime_params, **settings.CONFIG_LOADER_ARGS
        )["parameters"]
        return lambda name: reduce(dict.__getitem__, name.removeprefix("params:").split("."), conf)

    return of


@pytest.fixture(scope="module")
def gtex(parameters):
    return parameters("gtex_paper")


def cost(pipeline: Any, load: Any, finished: Any = lambda dataset, space: 0) -> RunCost:
    return RunCost(counted(pipeline.nodes), load, finished)


@pytest.mark.parametrize(
    ("environment", "sizes", "steps"),
    [
        ("gtex_paper", GTEX, {"denoiser": (90_000, 2048), "vae": (48_000, 256), "wgan_gp": (12_000, 1024)}),
        ("tcga_paper", TCGA, {"denoiser": (60_000, 2048), "vae": (4_000, 2048), "wgan_gp": (127_000, 64)}),
    ],
)
def test_all_trainings_of_the_study_are_listed_with_the_papers_steps(pipelines, parameters, environment, sizes, steps):
    found = {
        work.title.partition(":")[0]: work
        for work in cost(pipelines["study"], parameters(environment)).trainings(sizes)
    }
    assert found.keys() == {f"{model} on {space}" for model in steps for space in ("landmarks", "transcriptome")}
    for title, work in found.items():
        number, batch = steps[title.split()[0]]
        assert f"{number} steps of {batch} profiles" in work.title
        assert work.runs == 5
    parameters_of = {title: work.network.parameters for title, work in found.items()}
    if environment == "gtex_paper":
        assert parameters_of["denoiser on landmarks"] == 227_601_318
        # 2.8 TFLOP a step
        assert found["denoiser on landmarks"].operations == pytest.approx(2.8e12 * 90_000, rel=0.01)
    # weights, gradient, moments, average and checkpoint; and float32 profiles of both spaces
    least = 24 * parameters_of["denoiser on transcriptome"] + 4 * sizes.both * sum(sizes.genes.values())
    assert least < found["denoiser on transcriptome"].memory < 3 * least


def test_trainings_that_are_there_are_not_counted(pipelines, gtex):
    there = {("models_vae", "landmarks"): 2, ("models_vae", "transcriptome"): 7}
    works = list(cost(pipelines["study"], gtex, lambda *place: there.get(place, 0)).trainings(GTEX))
    runs = {work.title.partition(":")[0]: work.runs for work in works}
    assert runs["vae on landmarks (2 more are there already)"] == 3
    assert runs["vae on transcriptome (5 more are there already)"] == 0
    assert runs["denoiser on landmarks"] == 5
    # the default run trains again
    works = list(cost(pipelines["__default__"], gtex, lambda *place: there.get(place, 0)).trainings(GTEX))
    assert {work.runs for work in works} == {5}


def test_draws_are_counted_by_evaluations_of_the_denoiser(pipelines, gtex):
    landmarks, whole = cost(pipelines["study"], gtex).draws(GTEX)
    scorecard = 2 * 5 * 9795 * 1000
    compared = 3 * 5 * 9795 * (10 + 20 + 50 + 100 + 1000)
    protocol = 2 * 12_244 * (15 * 1000 + 5 * (50 + 100))
    assert landmarks.operations == pytest.approx(2 * 227_601_318 * (scorecard + compared + protocol))
    # of DDIM on the scorecard; of DDPM and DDIM in the protocol
    assert whole.operations == pytest.approx(2 * whole.network.parameters * (5 * 9795 + 2 * 12_244 * 15) * 1000)


def test_classifiers_of_the_protocol_are_counted_by_generator_and_way(pipelines, gtex):
    landmarks, whole = cost(pipelines["study"], gtex).classifiers(GTEX)
    assert landmarks.runs == (8 + 1) * 15  # real profiles as well
    assert landmarks.operations == pytest.approx(6 * 2_074_650 * 0.8 * 12_244 * 150, rel=0.01)
    # vae, wgan_gp, ddpm and ddim by least squares, perceptron and directly; class_gaussian is none of the paper's
    assert whole.runs == (4 * 3 + 1) * 15
    assert whole.network.parameters == pytest.approx(55_279_642, rel=0.01)
    # a default run has no direct models
    _, whole = cost(pipelines["paper_protocol"], gtex).classifiers(GTEX)
    assert whole.runs == (4 * 2 + 1) * 15


def test_our_own_networks_are_not_worth_an_estimate(pipelines, parameters):
    assert not cost(pipelines["study"], parameters("base")).options
    assert not counted(pipelines["ingestion"].nodes)


def test_sizes_are_those_of_the_parameters_or_of_an_earlier_run(parameters):
    configured = sizes_at_start({"cohort_summary"}, parameters("tcga_paper"), lambda name: False)
    assert configured == Sizes(6499, 1625, {"landmarks": 978, "transcriptome": 20_000}, 25, assumed=True)
    assert "assumed" in str(configured)
    assert sizes_at_start({"cohort_summary"}, parameters("rnaseqdb"), lambda name: True) is None
    parts = {"split": ["train", "validation", "test"], "samples": [600, 86, 173]}
    table = pd.DataFrame({"tissue": ["all"] * 3, **parts})
    earlier = sizes_at_start(set(), {"cohort_summary": table}.__getitem__, lambda name: True)
    assert earlier is not None
    assert (earlier.train, earlier.validation) == (600, 86)
    assert sizes_at_start(set(), parameters("rnaseqdb"), lambda name: False) is None


# ----------------------------------------------------------------------------------- in a run
@pytest.fixture
def catalog(pipelines, parameters, tmp_path):
    """Of an environment: what the estimate reads."""

    def of(pipeline: Any, environment: str, **runtime_params: Any) -> DataCatalog:
        load = parameters(environment, **runtime_params)
        nodes = [node for node in pipeline.nodes if isinstance(node.func, Fit)]
        found = DataCatalog(
            {name: TrainedModelDataset(filepath=str(tmp_path / name)) for node in nodes for name in node.outputs}
        )
        names = {name for node in pipeline.nodes for name in node.inputs if name.startswith("params:")}
        for name in {*names, "params:paper_protocol", "params:split"}:
            found[name] = load(name)
        return found

    return of


@pytest.fixture
def log(caplog, monkeypatch):
    monkeypatch.setattr(training_cost, "measure_rate", lambda *_: 1e13)
    monkeypatch.setattr(training_cost, "measure_pass", lambda _: 1e-12)
    caplog.set_level(logging.INFO, logger=training_cost.__name__)
    return caplog


def test_a_run_whose_split_has_sizes_says_at_the_start_what_it_takes(pipelines, catalog, log):
    pipeline = pipelines["study"]
    catalog_here = catalog(pipeline, "gtex_paper")
    RunHooks().before_pipeline_run(pipeline, catalog_here)
    (record,) = log.records
    text = record.getMessage()
    assert re.search(r"What follows takes about \d+ days to \d+ days on this processor.*20000 genes \(assumed", text)
    # 2.5e17 operations at 1e13 a second, five times, are 35 hours, within a factor of 1.6
    assert "5 x denoiser on landmarks: 227.6 million parameters, 90000 steps of 2048 profiles at most: 22" in text
    assert re.search(r"Memory of trainings: up to \d+\.\d GB, for denoiser on transcriptome", text)
    assert "Not counted: " in text
    assert WAITING not in catalog_here
    RunHooks().after_node_run(catalog_here, filtered())
    assert len(log.records) == 1


def filtered() -> dict[str, Any]:
    """What the node that filters genes makes."""
    obs = pd.DataFrame({"tissue": ["liver", "lung"] * 20}, index=[f"s{i}" for i in range(40)])
    genes = pd.DataFrame({"symbol": list("abc")}, index=list("abc"))
    cohort = make_profiles(np.ones((40, 3)), obs, genes, "log2(TPM + 1)")
    panel = pd.DataFrame({"found": [True, True, False]})
    return {"expression_train": cohort, "expression_validation": cohort[:8], "gene_panel": panel}


def test_any_other_run_says_it_once_the_cohort_is_split(pipelines, catalog, log):
    pipeline = pipelines["study"]
    here = catalog(pipeline, "rnaseqdb", preset="tcga_paper", preset_scale=8)
    RunHooks().before_pipeline_run(pipeline, here)
    hooks = RunHooks()  # that of another process
    hooks.after_node_run(here, {"cohort_summary": pd.DataFrame()})
    assert not log.records
    outputs = filtered()
    assert sizes_after(outputs) == Sizes(40, 8, {"landmarks": 2, "transcriptome": 3}, 2)
    hooks.after_node_run(here, outputs)
    (record,) = log.records
    assert "40 training and 8 validation profiles of 3 genes" in record.getMessage()
    assert "assumed" not in record.getMessage()
    # 15,000 / 8 epochs of one batch
    assert "denoiser on landmarks: " in record.getMessage()
    assert "1875 steps of 48 profiles" in record.getMessage()


def test_a_run_of_our_own_networks_says_nothing(pipelines, catalog, log):
    here = catalog(pipelines["__default__"], "base")
    RunHooks().before_pipeline_run(pipelines["__default__"], here)
    assert WAITING not in here
    assert not log.records
