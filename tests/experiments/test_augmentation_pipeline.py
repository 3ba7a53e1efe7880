"""The low-sample experiment as a pipeline: who reads held-out donors, and one run on the test environment."""

from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from kedro.framework.project import pipelines as registered
from kedro.framework.startup import bootstrap_project

from command_line import copied, kedro_here
from transcriptome_diffusion.experiments import learning_curves
from transcriptome_diffusion.experiments.options import AugmentationOptions
from transcriptome_diffusion.generation import load_generator
from transcriptome_diffusion.generators.options import SamplerOptions
from transcriptome_diffusion.generators.privacy_options import PrivacyOptions, PrivateModelOptions
from transcriptome_diffusion.generators.registry import GENERATORS
from transcriptome_diffusion.pipelines.augmentation.nodes import TrainClassifiers, refuse_unknown, train_references
from transcriptome_diffusion.pipelines.privacy.nodes import choose

HELD_OUT = {"expression_test", "landmarks_test"}
PARAMS = ",".join(
    [
        *("privacy.dial=dp", "privacy.generator=ddim"),
        *("denoiser.training.max_steps=10", "denoiser.training.validate_every=10", "ddim.steps=3"),
    ]
)
#: the experiment's evaluation node: the only one that may see held-out donors, as it fits nothing
EVALUATION = "augmentation.evaluate"


@pytest.fixture(scope="module")
def experiment(project):
    bootstrap_project(project)
    return registered["augmentation"]


def test_held_out_donors_are_read_by_the_evaluation_node_alone(experiment):
    assert {node.name for node in experiment.nodes if HELD_OUT & set(node.inputs)} == {EVALUATION}


def test_the_evaluation_node_fits_nothing_and_leads_to_a_figure_only(experiment):
    """It gets classifiers that are trained already: no training or validation donor, no setting of a generator."""
    evaluate = next(node for node in experiment.nodes if node.name == EVALUATION)
    others = set(evaluate.inputs) - {"landmarks_test", "params:evaluation"}
    assert others
    assert all(name.startswith("augmentation_classifiers_") for name in others)
    after = experiment.from_nodes(EVALUATION).nodes
    assert {node.name for node in after} == {EVALUATION, "augmentation.plot"}


def test_what_is_trained_reads_training_and_validation_donors_and_nothing_else_of_the_cohort(experiment):
    trainers = [node for node in experiment.nodes if node.name.startswith("augmentation.train_")]
    assert {node.name.removeprefix("augmentation.train_") for node in trainers} == {
        "references",
        *GENERATORS,
    }
    for node in trainers:
        read = {name for name in node.inputs if not name.startswith("params:")}
        public = {"augmentation_reference"} if node.name != "augmentation.train_references" else set()
        assert read == {"landmarks_train", "landmarks_validation"} | public, node.name


def test_the_public_cohort_is_cut_to_the_genes_of_the_users_and_sees_no_held_out_donor(experiment):
    prepare = next(node for node in experiment.nodes if node.name == "augmentation.prepare_reference")
    assert {name for name in prepare.inputs if not name.startswith("params:")} == {
        "reference_cohort",
        "landmarks_train",
    }


def test_it_is_no_part_of_the_default_run_nor_of_the_evaluation(experiment):
    for name in ("__default__", "evaluation"):
        assert not {node.name for node in experiment.nodes} & {node.name for node in registered[name].nodes}
        assert not experiment.all_outputs() & registered[name].inputs()


def test_a_generator_that_is_not_listed_is_not_trained_and_an_unknown_one_is_named():
    options = AugmentationOptions(generators=["vae"])
    assert TrainClassifiers("class_kde")(None, None, None, None, options, None, None, None) == []
    refuse_unknown(options)
    with pytest.raises(ValueError, match=r"lists \['vea'\]; expected some of \['class_bootstrap', 'class_gaussian'"):
        train_references(None, None, AugmentationOptions(generators=["vea"]), None)


def test_with_a_reference_every_generator_runs_with_the_dials_it_knows():
    options, privacy = AugmentationOptions(epsilons=[1, 8]), PrivacyOptions()

    def names(generator, reference=True):
        return list(TrainClassifiers(generator).methods(options, privacy, reference))

    assert names("class_gaussian", reference=False) == ["class_gaussian"]
    dials = ["+reference", "+reference_axes", "+dp_1", "+dp_8"]
    assert names("class_gaussian") == ["class_gaussian", *(f"class_gaussian{dial}" for dial in dials)]
    assert names("vae") == ["vae", *(f"vae{dial}" for dial in dials)]
    assert names("class_kde") == ["class_kde"]
    found = TrainClassifiers("class_gaussian").methods(options, privacy, True)["class_gaussian+dp_8"]
    assert (found.dial, found.epsilon) == ("dp", 8)


def test_the_private_model_is_the_generator_that_is_named_with_its_own_settings_and_sampler():
    blocks = [GENERATORS[name].options() for name in ("class_gaussian", "vae", "wgan_gp", "flow_matching", "ddpm")]
    samplers = [SamplerOptions(name=name, steps=7) for name in ("ddpm", "ddim")]
    for name, spec in GENERATORS.items():
        if name in ("class_kde", "class_bootstrap"):
            with pytest.raises(ValueError, match="generator"):
                PrivateModelOptions(generator=name)
            continue
        chosen = choose(PrivateModelOptions(generator=name), *blocks, *samplers)
        assert type(chosen) is spec.options
        if spec.sampler:
            assert (chosen.sampler.name, chosen.sampler.steps) == (name, 7)


@pytest.mark.slow
def test_the_experiment_runs_on_the_test_environment(project, tmp_path, monkeypatch):
    monkeypatch.setattr(learning_curves, "PERMUTATIONS", 10)
    monkeypatch.setattr(learning_curves, "DRAWS", 2)
    copy = copied(project, tmp_path / "project")
    pipelines = "ingestion,feature_landmarks,augmentation,privacy"
    run = kedro_here(copy, "run", "--env", "test", "--pipelines", pipelines, "--params", PARAMS)
    assert run.returncode == 0, run.stdout[-3000:]
    assert "vae: takes no part" in run.stdout

    reporting = copy / "data" / "test" / "08_reporting"
    table = pd.read_csv(reporting / "augmentation.csv", dtype={"n_per_tissue": str})
    assert list(table.columns[:6]) == ["method", "n_per_tissue", "ratio", "seed", "metric", "value"]
    models = ("class_gaussian", "ddim")
    with_reference = {f"{name}+{dial}" for name in models for dial in ("reference", "reference_axes")}
    assert set(table["method"]) == {"none", "oversampling", "smote", "class_gaussian", "ddim"} | with_reference
    assert set(table["n_per_tissue"]) == {"5", "all"}
    for method, part in table.groupby("method"):
        assert set(part["ratio"]) == ({0} if method == "none" else {1, 2})
    metrics = ("accuracy", "balanced_accuracy", "macro_f1", "auroc")
    assert set(table["metric"]) == {f"{metric}_{kind}" for metric in metrics for kind in ("mlp", "logistic")}
    assert np.isfinite(table["value"]).all()
    train = ad.read_h5ad(copy / "data" / "test" / "04_feature" / "landmarks_train.h5ad", backed="r").obs
    assert set(table.loc[table["n_per_tissue"] == "5", "real_profiles"]) == {5 * train["tissue"].nunique()}
    assert set(table.loc[table["n_per_tissue"] == "all", "real_profiles"]) == {len(train)}
    # more real profiles tell more than few
    logistic = table.query("method == 'none' and metric == 'auroc_logistic'").set_index("n_per_tissue")["value"]
    assert logistic["all"] > logistic["5"]

    gained = pd.read_csv(reporting / "augmentation_gains.csv", dtype={"n_per_tissue": str})
    assert set(gained["method"]) == set(table["method"]) - {"none"}
    assert np.isfinite(gained["gain"]).all()

    figure = json.loads((reporting / "augmentation.json").read_text())
    lines = [trace["name"] for trace in figure["data"]]
    assert lines == list(dict.fromkeys(table["method"]))[1:] * 2

    quality = pd.read_csv(reporting / "augmentation_quality.csv", dtype={"n_per_tissue": str})
    budgets = {f"{name}+dp_{epsilon}" for name in models for epsilon in (1, 8)}
    assert set(quality["method"]) == with_reference | budgets | {"class_gaussian", "ddim"}
    wide = quality[quality["n_per_tissue"] == "all"].pivot_table(index="method", columns="metric", values="value")
    assert wide.at["class_gaussian", "attack_auc"] > 0.8 > wide.at["class_gaussian+reference_axes", "attack_auc"]
    worth = pd.read_csv(reporting / "augmentation_worth.csv", dtype={"n_per_tissue": str})
    assert {"(predicted)", "5", "all"} == set(worth.loc[worth["method"] == "none", "n_per_tissue"])
    for name in ("worth", "frontier"):
        assert json.loads((reporting / f"augmentation_{name}.json").read_text())["data"]

    model = load_generator(copy / "data" / "test" / "06_models" / "private")
    assert model.record["privacy"]["dial"] == "dp"
    assert "fingerprint" not in model.record
    assert model.sample(dict.fromkeys(train["tissue"].unique(), 3), seed=1).n_obs == 12
    assert "(8, 1e-05)-differentially private" in (reporting / "privacy" / "sentence.md").read_text()
    attacks = pd.read_csv(reporting / "privacy" / "attacks.csv")
    assert set(attacks["released"].dropna()) == {60, 150, 300, 600, 10 * len(train)}
    on_model = attacks[attacks["released"].isna()].set_index("attack")["auc"]
    assert set(on_model.index) == {"loss_attack", "loss_attack_relative"}
    frontier = pd.read_csv(reporting / "privacy" / "frontier.csv").set_index("method")
    dials = ("", "+reference", "+reference_axes", *(f"+dp_{epsilon}" for epsilon in (1, 8)))
    assert list(frontier.index) == [f"ddim{dial}" for dial in dials]
    assert frontier.at["ddim", "attack_auc"] > 0.8 > frontier.at["ddim+reference_axes", "attack_auc"]
    assert json.loads((reporting / "privacy" / "frontier.json").read_text())["data"]
    page = (reporting / "privacy" / "report.html").read_text()
    assert "(8, 1e-05)-differentially private" in page
    assert "<td>ddim+dp_8</td>" in page
