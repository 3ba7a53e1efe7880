"""Promises of the pipeline graph itself: who may read what, and that listing stays light."""

from __future__ import annotations

import subprocess
import sys

import pytest
from kedro.framework.project import pipelines as registered
from kedro.framework.startup import bootstrap_project

from transcriptome_diffusion.generators.registry import BASELINES, SAMPLERS

HELD_OUT = {"expression_test", "landmarks_test"}
CUT_TO_PANEL = "feature_landmarks.select_test"


@pytest.fixture(scope="module")
def pipelines(project):
    bootstrap_project(project)
    return dict(registered)


def test_the_six_stages_their_sum_and_what_stands_beside_them_are_registered(pipelines):
    assert set(pipelines) == {
        "ingestion",
        "feature_landmarks",
        "baselines",
        "diffusion_training",
        "reconstruction",
        "evaluation",
        "tuning",
        "augmentation",
        "download",
        "study",
        "__default__",
    }
    beside = ("tuning", "augmentation", "download", "study", "__default__")
    stages = [pipelines[name] for name in pipelines if name not in beside]
    assert sum(len(stage.nodes) for stage in stages) == len(pipelines["__default__"].nodes)


def test_held_out_donors_are_read_by_evaluation_alone(pipelines):
    readers = {node.name for node in pipelines["__default__"].nodes if HELD_OUT & set(node.inputs)}
    assert {name for name in readers if not name.startswith("evaluation.")} == {CUT_TO_PANEL}


def test_in_the_study_they_are_read_by_evaluation_and_by_its_comparison_of_samplers(pipelines):
    """The comparison scores finished trainings; test_study_pipeline.py shows that it leads to no model."""
    readers = {node.name for node in pipelines["study"].nodes if HELD_OUT & set(node.inputs)}
    others = {name for name in readers if not name.startswith("evaluation.")}
    assert others == {CUT_TO_PANEL, *(f"study.compare_steps_{sampler}" for sampler in SAMPLERS)}


def test_cutting_held_out_donors_to_the_panel_leads_nowhere_but_to_evaluation(pipelines):
    cut = next(node for node in pipelines["__default__"].nodes if node.name == CUT_TO_PANEL)
    assert set(cut.inputs) == {"expression_test", "gene_panel", "params:landmarks"}
    assert cut.outputs == ["landmarks_test"]


def test_the_search_reads_training_and_validation_donors_and_nothing_else_of_the_cohort(pipelines):
    read = {name for name in pipelines["tuning"].inputs() if not name.startswith("params:")}
    assert read == {"landmarks_train", "landmarks_validation"}


def test_every_generator_can_be_searched_on_its_own(pipelines):
    searches = {f"tuning.search_{name}" for name in (*BASELINES, "denoiser")}
    assert {node.name for node in pipelines["tuning"].nodes} == searches
    assert not searches & {node.name for node in pipelines["__default__"].nodes}


def test_nothing_evaluation_makes_flows_back_into_a_model(pipelines):
    made = pipelines["evaluation"].all_outputs()
    for name, stage in pipelines.items():
        if name not in ("evaluation", "__default__"):
            assert not made & stage.inputs(), name
    models = {
        name
        for name in pipelines["study"].all_outputs()
        if name.startswith(("generator_", "denoiser", "direct_denoiser"))
    }
    assert not pipelines["study"].from_inputs(*made).all_outputs() & models


def test_every_stage_has_its_own_namespace(pipelines):
    for name, stage in pipelines.items():
        if name not in ("__default__", "study"):  # the study has the stages' nodes, and those of its own
            assert {(node.namespace or "").split(".")[0] for node in stage.nodes} == {name}


def test_listing_pipelines_imports_nothing_heavy(project):
    heavy = ["torch", "lightning", "anndata", "sklearn", "scipy", "polars", "plotly", "pandas", "optuna"]
    code = (
        "import sys, transcriptome_diffusion.pipeline_registry as r; r.register_pipelines(); "
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"
