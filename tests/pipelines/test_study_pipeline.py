"""The study as a pipeline: what it shares with the default run, who reads held-out donors, and interruptions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from kedro.config import OmegaConfigLoader
from kedro.framework.project import pipelines as registered
from kedro.framework.project import settings
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog

from transcriptome_diffusion.datasets import TrainedModelDataset
from transcriptome_diffusion.experiments.options import StudyOptions
from transcriptome_diffusion.expression.options import SplitOptions
from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.generators.class_gaussian import ClassGaussian
from transcriptome_diffusion.generators.options import ClassGaussianOptions
from transcriptome_diffusion.generators.registry import GENERATORS
from transcriptome_diffusion.generators.runs import trainings
from transcriptome_diffusion.pipelines.study.nodes import NOT_THE_SAME, PUBLISHED_OF, TABLES, WriteReport
from transcriptome_diffusion.pipelines.study.pipeline import FIGURES, SAMPLERS

#: the study's own nodes that read held-out donors: they are evaluation, they fit nothing, and what they make leads to
#: nothing but tables, figures and the study's report
EVALUATION = {f"evaluation.study.compare_steps_{sampler}" for sampler in SAMPLERS}


@pytest.fixture(scope="module")
def pipelines(project):
    bootstrap_project(project)
    return dict(registered)


@pytest.fixture(scope="module")
def own(pipelines):
    """The nodes that the default run has not."""
    return pipelines["study"].only_nodes_with_namespaces(["evaluation.study"])


def test_it_is_the_whole_default_run_with_runs_and_resume_of_its_own(pipelines, own):
    default = {node.name: node for node in pipelines["__default__"].nodes}
    stages = {node.name: node for node in (pipelines["study"] - own).nodes}
    assert stages.keys() == default.keys()
    mapped = {f"params:{name}": f"params:study.{name}" for name in ("runs", "resume", "detail")}
    for name, node in stages.items():
        assert node.inputs == [mapped.get(given, given) for given in default[name].inputs], name
        assert node.outputs == default[name].outputs, name
    fits = [node for node in stages.values() if "params:study.runs" in node.inputs]
    assert {output.split(".")[-1] for node in fits for output in node.outputs} == {
        f"models_{spec.model or name}" for name, spec in GENERATORS.items()
    }
    assert not set(mapped) & pipelines["study"].inputs()


def test_of_its_own_nodes_the_comparison_of_samplers_and_the_papers_protocol_alone_read_held_out_donors(own):
    held_out = {"expression_test", "landmarks_test", "evaluation.reference"}
    protocol = {f"evaluation.study.paper_protocol.score_{name}" for name in ("real", *GENERATORS)}
    assert {node.name for node in own.nodes if held_out & set(node.inputs)} == EVALUATION | protocol


def test_the_comparison_of_samplers_trains_nothing_and_leads_to_tables_figures_and_report_only(pipelines, own):
    for node in own.nodes:
        if node.name in EVALUATION:
            read = {name for name in node.inputs if not name.startswith("params:")}
            assert read == {"models_denoiser", "landmarks_train", "evaluation.reference"}
            assert all(output.startswith("study_draws_") for output in node.outputs)
    after = pipelines["study"].from_nodes(*EVALUATION)
    rest = {f"evaluation.study.{name}" for name in ("tabulate", "plot", "write_report")}
    assert {node.name for node in after.nodes} == EVALUATION | rest
    assert all(name.startswith(("study_", "figure_study_", "paper_")) for name in own.all_outputs())


def test_nothing_the_study_makes_is_read_elsewhere(pipelines, own):
    for name, pipeline in pipelines.items():
        if name not in ("study", "paper_protocol"):  # the latter are nodes of the study as well
            assert not own.all_outputs() & pipeline.all_inputs(), name
            assert not {node.name for node in own.nodes} & {node.name for node in pipeline.nodes}, name


def test_what_trainings_cost_comes_from_the_log_of_all_of_them(own):
    tabulate = next(node for node in own.nodes if node.name == "evaluation.study.tabulate")
    assert "evaluation.report.training_summary" in tabulate.inputs


def test_the_papers_figures_that_the_evaluation_makes_stand_in_the_report(pipelines, own):
    report = next(node for node in own.nodes if node.name == "evaluation.study.write_report")
    made = {f"evaluation.report.figure_{what}" for what in FIGURES}
    assert made <= pipelines["evaluation"].all_outputs()
    assert made <= set(report.inputs)
    assert set(FIGURES.values()) <= set(TABLES)


@pytest.mark.parametrize(("published", "strategy"), [("gtex", "donor"), ("tcga", "random"), (None, "donor")])
def test_the_report_says_what_the_published_values_are_of(published, strategy):
    cohort = pd.DataFrame({"tissue": ["all", "liver", "lung"], "split": "train", "samples": [30, 10, 20]})
    empty = pd.DataFrame(columns=["generator", "metric", "mean"])
    options, split = StudyOptions(published=published), SplitOptions(strategy=strategy)
    html = WriteReport([])(options, split, cohort, *[empty] * len(TABLES), go.Figure(), go.Figure())
    said = [name for name, what in PUBLISHED_OF.items() if NOT_THE_SAME.format(what) in html]
    assert said == ([] if published is None else [published])
    assert "tissues: 2" in html
    assert "train profiles: 30" in html
    assert f"split over: {'donors' if strategy == 'donor' else 'samples'}" in html


@pytest.mark.parametrize(
    ("environment", "published"),
    [
        ("base", None),
        ("rnaseqdb", None),
        ("gtex", "gtex"),
        ("gtex_paper", "gtex"),
        ("tcga", "tcga"),
        ("tcga_paper", "tcga"),
    ],
)
def test_published_values_stand_beside_ours_where_the_cohort_is_the_papers(
    project, pipelines, own, environment, published
):
    loader = OmegaConfigLoader(str(project / "conf"), env=environment, **settings.CONFIG_LOADER_ARGS)
    options = StudyOptions.model_validate(loader["parameters"]["study"])
    assert options == StudyOptions(runs=5, resume=True, steps=[10, 20, 50, 100, 1000], published=published)
    catalog = DataCatalog.from_config(loader["catalog"])
    for name in own.datasets():
        if not name.startswith("params:"):
            assert catalog.get(name) is not None, name


def test_an_interruption_costs_the_training_it_falls_into_and_no_other(tmp_path, monkeypatch):
    obs = pd.DataFrame({"tissue": ["liver", "lung"] * 20}, index=[f"s{i}" for i in range(40)])
    genes = pd.DataFrame({"symbol": list("abc")}, index=list("abc"))
    cohort = make_profiles(np.random.default_rng(0).normal(size=(40, 3)), obs, genes, "log2(TPM + 1)")
    data = {"landmarks": (cohort, cohort, ClassGaussianOptions(seed=7, min_samples=2))}
    trained = []
    plain = ClassGaussian.fit.__func__

    def counted(cls, train, validation, options):
        if len(trained) == 2 and not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        trained.append(options.seed)
        return plain(cls, train, validation, options)

    interrupted = []
    monkeypatch.setattr(ClassGaussian, "fit", classmethod(counted))
    models = TrainedModelDataset(filepath=str(tmp_path / "class_gaussian"))

    def train(runs, resume=True):
        models.save(trainings(ClassGaussian, data, runs, resume))

    train(1, resume=False)  # a default run, before anybody thought of the study
    with pytest.raises(KeyboardInterrupt):
        train(4)
    assert [path.name for path in models.load().landmarks.folders] == ["run_1", "run_2"]
    assert not models.exists()
    train(4)
    assert trained == [7, 1007, 2007, 3007]
    assert len(models.load().landmarks) == 4
    assert models.exists()
