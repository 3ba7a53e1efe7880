"""Promises of the pipeline graph itself: who may read what, how wide it is, and that listing stays light."""

from __future__ import annotations

import subprocess
import sys
from multiprocessing.reduction import ForkingPickler

import pytest
from kedro.framework.project import pipelines as registered
from kedro.framework.startup import bootstrap_project

from transcriptome_diffusion.generators.registry import GENERATORS, trained_models

HELD_OUT = {"expression_test", "landmarks_test"}
CUT_TO_PANEL = "feature_landmarks.select_test"
STAGES = ("ingestion", "feature_landmarks", "baselines", "diffusion_training", "reconstruction", "evaluation")
EXTRAS = ("tuning", "augmentation", "download", "generation", "paper_protocol", "privacy")


@pytest.fixture(scope="module")
def pipelines(project):
    bootstrap_project(project)
    return dict(registered)


def test_the_six_stages_their_sum_and_what_stands_beside_them_are_registered(pipelines):
    assert set(pipelines) == {*STAGES, *EXTRAS, "study", "__default__"}
    assert sum(len(pipelines[name].nodes) for name in STAGES) == len(pipelines["__default__"].nodes)


def readers_of_held_out_donors(pipeline):
    """Nodes outside evaluation that read held-out donors, as profiles or in the evaluation's reference."""
    return {
        node.name
        for node in pipeline.nodes
        if (HELD_OUT | {"evaluation.reference"}) & set(node.inputs) and not node.name.startswith("evaluation.")
    }


def test_held_out_donors_are_read_by_evaluation_alone(pipelines):
    # ingestion makes them, and the panel cuts them
    assert readers_of_held_out_donors(pipelines["__default__"]) == {CUT_TO_PANEL}


def test_in_the_study_as_well(pipelines):
    """Its comparison of samplers is evaluation; test_study_pipeline.py shows that it leads to no model."""
    assert readers_of_held_out_donors(pipelines["study"]) == {CUT_TO_PANEL}


def test_cutting_held_out_donors_to_the_panel_leads_nowhere_but_to_evaluation(pipelines):
    cut = next(node for node in pipelines["__default__"].nodes if node.name == CUT_TO_PANEL)
    assert [name for name in cut.inputs if "test" in name] == ["expression_test"]
    assert cut.outputs == ["landmarks_test"]


def test_the_search_reads_training_and_validation_donors_and_nothing_else_of_the_cohort(pipelines):
    read = {name for name in pipelines["tuning"].inputs() if not name.startswith("params:")}
    assert read == {"landmarks_train", "landmarks_validation"}


def test_every_model_can_be_searched_on_its_own(pipelines):
    searches = {f"tuning.search_{name}" for name in trained_models()}
    assert {node.name for node in pipelines["tuning"].nodes} == searches
    assert not searches & {node.name for node in pipelines["__default__"].nodes}


def test_the_generation_reads_trained_models_and_nothing_of_the_cohort(pipelines):
    read = {name for name in pipelines["generation"].inputs() if not name.startswith("params:")}
    assert read == {"generation.models"}
    assert not pipelines["generation"].datasets() & {
        name for name in pipelines["__default__"].datasets() if not name.startswith("params:")
    }


def test_the_private_model_is_fitted_without_held_out_donors_and_its_report_leads_to_no_model(pipelines):
    private = pipelines["privacy"]
    assert readers_of_held_out_donors(private) == {"privacy.report"}
    assert private.from_nodes("privacy.report").nodes == private.only_nodes("privacy.report").nodes


def test_nothing_evaluation_makes_flows_back_into_a_model(pipelines):
    made = pipelines["evaluation"].all_outputs()
    for name in (*STAGES[:-1], *EXTRAS):
        assert not made & pipelines[name].inputs(), name
    reached = pipelines["study"].from_inputs(*made).all_outputs()
    assert not [name for name in reached if "models_" in name or name == "reconstructors"]


def test_every_stage_has_its_own_namespace(pipelines):
    for name, stage in pipelines.items():
        if name not in ("__default__", "study"):  # the study has the stages' nodes, and its own inside evaluation
            assert {(node.namespace or "").split(".")[0] for node in stage.nodes} == {name}


def test_the_lineage_stays_readable(pipelines):
    """At most 65 tasks, and at most 40 boxes and datasets where kedro-viz collapses every stage."""
    whole = pipelines["__default__"]
    assert len(whole.nodes) <= 65
    assert len(STAGES) + len(top_floor(whole)) <= 40


def test_what_only_one_stage_touches_is_hidden_in_its_box(pipelines):
    whole = pipelines["__default__"]
    stages = {name: pipelines[name].datasets() for name in STAGES}
    results = {"scorecard", "report"}
    for dataset in top_floor(whole):
        touched = [name for name, datasets in stages.items() if dataset in datasets]
        assert len(touched) > 1 or dataset in results or dataset in whole.inputs(), f"{dataset} is {touched}'s alone"
    assert results <= top_floor(whole)


def top_floor(whole):
    """Datasets that a collapsed lineage shows: those without the prefix of a stage, and no parameters."""
    return {
        name
        for name in whole.datasets()
        if not name.startswith(("params:", *(f"{stage}." for stage in STAGES))) and name != "parameters"
    }


@pytest.mark.parametrize("name", GENERATORS)
def test_a_tag_runs_one_generator_from_training_to_scores(pipelines, name):
    chain = pipelines["__default__"].only_nodes_with_tags(name)
    assert len(chain.nodes) == 4
    assert chain.outputs() == {f"evaluation.scores_{name}"} | ({"models_denoiser"} & chain.outputs())


def test_every_node_can_be_sent_to_another_process(pipelines):
    for name, pipeline in pipelines.items():
        for node in pipeline.nodes:
            assert ForkingPickler.dumps(node), (name, node.name)


def test_listing_pipelines_imports_nothing_heavy(project):
    heavy = ["torch", "lightning", "anndata", "sklearn", "scipy", "polars", "plotly", "pandas", "optuna"]
    code = (
        "import sys, transcriptome_diffusion.pipeline_registry as r; r.register_pipelines(); "
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"
