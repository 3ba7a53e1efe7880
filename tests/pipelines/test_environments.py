"""Every folder of conf/ makes a catalog and parameters that the nodes accept, and the paper's two carry its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kedro.config import OmegaConfigLoader
from kedro.framework.project import pipelines as registered
from kedro.framework.project import settings
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog
from kedro.validation.parameter_validator import ParameterValidator
from sklearn.model_selection import train_test_split

from transcriptome_diffusion.cohorts.options import DownloadOptions
from transcriptome_diffusion.cohorts.readers import READERS
from transcriptome_diffusion.contracts import ExpressionContract
from transcriptome_diffusion.expression.splitting import assign_splits
from transcriptome_diffusion.generators.registry import trained_models

CONF = Path(__file__).resolve().parents[2] / "conf"
ENVIRONMENTS = sorted(path.name for path in CONF.iterdir() if path.is_dir())
PUBLISHED = {"gtex": 4, "gtex_paper": 4, "tcga": 2, "tcga_paper": 66, "toil": 3, "rnaseqdb": 52}


@pytest.fixture(scope="module")
def pipelines(project):
    bootstrap_project(project)
    return dict(registered)


class ReadOnce(dict[str, Any]):
    """A configuration whose files are read once, since reading them takes longer than all else here."""

    def __init__(self, loader: OmegaConfigLoader) -> None:
        self.loader = loader

    def __missing__(self, key: str) -> Any:
        self[key] = self.loader[key]
        return self[key]


@pytest.fixture(scope="module")
def configured(project, pipelines):
    read: dict[str, ReadOnce] = {}

    def load(environment: str, **runtime_params: Any) -> ReadOnce:
        return read.setdefault(
            f"{environment} {runtime_params}",
            ReadOnce(
                OmegaConfigLoader(
                    str(project / "conf"), env=environment, runtime_params=runtime_params, **settings.CONFIG_LOADER_ARGS
                )
            ),
        )

    return load


@pytest.fixture(scope="module")
def validated(configured, pipelines):
    """Parameters of an environment as the models that the nodes get."""

    def load(environment: str, **runtime_params: Any) -> dict[str, Any]:
        raw = configured(environment, **runtime_params)["parameters"]
        return ParameterValidator(pipelines).validate_raw_params(raw)

    return load


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_block_of_parameters_is_one_its_nodes_accept(validated, environment):
    block = validated(environment)
    for name, spec in trained_models().items():
        assert isinstance(block[name], spec.options), name


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_catalog_has_what_the_pipelines_read_and_readers_with_options_they_know(
    configured, pipelines, environment
):
    loader = configured(environment)
    catalog = DataCatalog.from_config(loader["catalog"])
    for name in pipelines["__default__"].datasets():
        if name != "parameters" and not name.startswith("params:"):
            assert catalog.get(name) is not None, name
    for name in ("raw_cohort", "evaluation.oracle_cohort"):
        cohort = catalog.get(name)
        reader = READERS[cohort.reader]
        reader.options.model_validate(cohort.options)
        assert reader.needs_path == (cohort._filepath is not None)
    unit = loader["globals"]["unit"]
    assert ExpressionContract(**loader["catalog"]["expression_train"]["validator"]["options"]).unit == unit


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_download_fills_the_folder_that_the_cohort_is_read_from(configured, environment):
    wanted = DownloadOptions.model_validate(configured(environment)["parameters"]["download"])
    assert len(wanted.files) == PUBLISHED.get(environment, 0)
    if wanted.files:
        assert wanted.folder == configured(environment)["catalog"]["raw_cohort"]["filepath"]


def test_another_folder_on_the_command_line_is_that_of_the_download_as_well(configured):
    for environment in PUBLISHED:
        cohort = {"tcga_paper": "firehose"}.get(environment, environment.removesuffix("_paper"))
        loader = configured(environment, **{f"{cohort}_dir": "/elsewhere"})
        assert loader["catalog"]["raw_cohort"]["filepath"] == "/elsewhere"
        assert loader["parameters"]["download"]["folder"] == "/elsewhere"


@pytest.mark.parametrize(
    ("environment", "choice", "ending"),
    [
        ("gtex", {"release": "v10"}, "GTEx_Analysis_v10_RNASeQCv2.4.2_gene_tpm.gct.gz"),
        ("tcga", {"packaging": "xena"}, "EB%2B%2BAdjustPANCAN_IlluminaHiSeq_RNASeqV2.geneExp.xena.gz"),
    ],
)
def test_another_release_or_packaging_is_a_parameter(configured, environment, choice, ending):
    wanted = DownloadOptions.model_validate(configured(environment, **choice)["parameters"]["download"])
    assert wanted.address(wanted.files[0]).endswith(ending)


def test_the_54_sites_of_gtex_are_a_parameter(configured):
    for choice, column in (({}, "SMTS"), ({"ingestion": {"label": "SMTSD"}}, "SMTSD")):
        block = configured("gtex", **choice)["parameters"]["ingestion"]
        assert (block["label"], block["min_samples_per_tissue"]) == (column, 100)


# Lacan et al. (2026), doi:10.1186/s12859-026-06470-8, as their code has it: docs/paper.md
PAPER = {
    "gtex_paper": {
        "split": {"train": 9795, "validation": 2449, "test": 5000},
        "denoiser": (8192, 4.7838e-4),
        "vae": ([8192, 4096, 4096, 2048], 256, 7.8476e-4),
        "wgan_gp": ([128, 1024, 4096], [8192, 256], 1024, 2.20507e-3, 5.82026e-4),
        "landmark classifier": ([1024, 1024], 0.3, 1.1e-4, 64, "adamw"),
        "classifier of all genes": ([2048, 8192], 0.5, 5e-4, 1024, "adamw"),
    },
    "tcga_paper": {
        "split": {"train": 6499, "validation": 1625, "test": 1625},
        "denoiser": (4096, 1.41555e-3),
        "vae": ([2048, 8192, 256, 4096], 2048, 1.11075e-3),
        "wgan_gp": ([256, 1024, 8192], [4096, 128], 64, 2.75463e-4, 1.23696e-4),
        "landmark classifier": ([256, 16], 0.5, 3.46e-3, 2048, "adamw"),
        "classifier of all genes": ([1024, 1024], 0.5, 1.25e-2, 64, "sgd"),
    },
}
ALL_GENERATORS = ("denoiser", "vae", "wgan_gp")


@pytest.mark.parametrize(
    ("environment", "samples", "tissues", "training_file", "test", "changed"),
    [
        ("gtex_paper", 17_244, 26, 12_244, 5_000, {}),
        ("tcga_paper", 9_749, 24, 8_124, 1_625, {}),
        ("tcga_paper", 10_155, 24, 8_124, 1_625, {}),  # the rest is left out
        ("tcga_paper", 10_155, 24, 8_124, 2_031, {"sizes": {"test": 2_031}}),  # by the authors' code
    ],
)
def test_a_cohort_of_the_papers_size_is_split_into_parts_of_its_sizes(
    validated, environment, samples, tissues, training_file, test, changed
):
    label = np.arange(samples) % tissues
    obs = pd.DataFrame({"tissue": label, "donor": [f"d{i // 18}" for i in range(samples)]}).rename(index=str)
    table = assign_splits(obs, validated(environment, split=changed)["split"])
    sizes = table["split"].value_counts()
    assert (sizes["train"] + sizes["validation"], sizes["test"]) == (training_file, test)
    assert sizes["validation"] == -(-training_file // 5)  # a fifth, as scikit-learn rounds it
    assert table["tissue"].nunique() == tissues
    # samples are drawn, not donors
    assert table.groupby("donor")["split"].nunique().max() == 3
    if samples == training_file + test:  # the first of their two cuts
        expected = train_test_split(np.arange(samples), test_size=test, random_state=42)[1]
        assert set(table.loc[table["split"] == "test", "sample"]) == set(map(str, expected))


@pytest.mark.parametrize("environment", PAPER)
def test_the_papers_environments_carry_its_numbers_without_any_parameter_given(validated, environment):
    block, paper = validated(environment), PAPER[environment]
    split = block["split"]
    assert (split.strategy, split.seed) == ("random", 42)
    assert split.sizes.model_dump(exclude={"surplus"}) == paper["split"]

    denoiser = block["denoiser"]
    network = denoiser.network
    assert (network.kind, network.depth, network.dropout, network.embedding_dim) == ("paper", 2, 0.1, 2)
    assert network.time_shift == 1 / denoiser.schedule.timesteps
    assert (network.width, denoiser.training.learning_rate) == paper["denoiser"]
    assert denoiser.schedule.model_dump() == {
        "kind": "quadratic",
        "timesteps": 1000,
        "beta_start": 1e-4,
        "beta_end": 0.02,
    }
    assert (denoiser.prediction, denoiser.times.kind, denoiser.loss, denoiser.clip) == (
        "eps",
        "antithetic",
        "sum",
        False,
    )
    training = denoiser.training
    assert (training.batch_size, training.max_epochs) == (2048, 15000)
    assert (training.ema_decay, training.ema_warmup) == (0.999, False)
    assert (training.optimizer, training.learning_rate_schedule, training.peak_step) == ("adam", "one_cycle", 1000)
    for sampler in ("ddpm", "ddim"):
        assert (block[sampler].name, block[sampler].steps, block[sampler].spacing) == (sampler, 1000, "leading")

    vae, gan = block["vae"], block["wgan_gp"]
    assert (vae.hidden, vae.training.batch_size, vae.training.learning_rate) == paper["vae"]
    assert (vae.latent_dim, vae.training.optimizer) == (128, "adam")
    assert (vae.loss, vae.beta, vae.noise, vae.batch_norm, vae.dropout) == ("means", 1.0, "none", True, 0.0)
    assert (
        gan.hidden,
        gan.critic.hidden,
        gan.training.batch_size,
        gan.training.learning_rate,
        gan.critic.learning_rate,
    ) == paper["wgan_gp"]
    assert (gan.latent_dim, gan.batch_norm, gan.dropout, gan.critic.dropout) == (32, True, 0.0, 0.0)
    assert (gan.critic.steps, gan.critic.gradient_penalty, gan.training.critic_batches) == (5, 10, "same")
    assert gan.training.optimizer == "rmsprop"
    for found in (vae, gan):
        assert (found.architecture, found.space, found.embedding_dim) == ("paper", "genes", 2)
        assert (found.training.ema_decay, found.training.max_epochs) == (0, 1000)
        assert (found.training.learning_rate_schedule, found.training.warmup) == ("constant", 0)
    assert [block[name].scaling for name in ALL_GENERATORS] == ["linear_max_abs", "linear_standard", "linear_standard"]
    for name in ALL_GENERATORS:
        found = block[name]
        assert (found.train_on, found.lower_bound) == ("train_and_validation", "none")
        assert (found.training.partial_batches, found.training.keep) == (True, "last")
        assert (found.training.weight_decay, found.training.gradient_clip) == (0, None)

    mlp = block["reconstruction_mlp"]
    assert (mlp.hidden, mlp.dropout, mlp.batch_norm) == ([1024, 2048, 4096], 0.5, True)
    assert (mlp.training.learning_rate, mlp.training.batch_size, mlp.training.max_epochs) == (1e-3, 2048, 250)
    batches = -(-paper["split"]["train"] // 2048)
    assert (mlp.training.partial_batches, mlp.training.validate_every) == (True, batches)  # once an epoch
    assert mlp.training.patience == 25

    evaluation = block["evaluation"]
    assert evaluation.neighbours.model_dump() == {"landmarks": 10, "transcriptome": 50}
    for classifier, name in (
        (evaluation.classifier, "landmark classifier"),
        (evaluation.transcriptome_classifier, "classifier of all genes"),
    ):
        found = [getattr(classifier, key) for key in ("hidden", "dropout", "learning_rate", "batch_size", "optimizer")]
        assert tuple(found) == paper[name]
        assert (classifier.epochs, len(classifier.seeds), classifier.weight_decay) == (150, 15, 0)
    assert block["runs"] == 5

    protocol = block["paper_protocol"]
    assert (protocol.neighbours, protocol.drawings, protocol.classifiers) == (10, 5, 15)
    assert protocol.most_apart == {"max_abs": 2048, "standard": 4096}
    assert protocol.steps == [50, 100, 1000]
    whole = protocol.transcriptome
    assert (whole.neighbours, whole.rows, whole.classifiers) == (50, 2048, 15)
    for classifier, name, optimizer in (
        (protocol.classifier, "landmark classifier", "adam"),
        (whole.classifier, "classifier of all genes", "adam" if environment == "gtex_paper" else "sgd"),
    ):
        assert (classifier.hidden, classifier.dropout, classifier.learning_rate) == paper[name][:3]
        assert (classifier.batch_size, classifier.optimizer) == (paper[name][3], optimizer)
        assert (classifier.epochs, classifier.patience, classifier.label_smoothing) == (150, 50, 0.1)
        assert classifier.momentum == (0.5 if optimizer == "sgd" else 0)


def test_the_papers_tcga_has_samples_with_age_and_sex_and_no_cohort_twice(configured):
    options = configured("tcga_paper")["catalog"]["raw_cohort"]["options"]
    assert options["packaging"] == "firehose"
    assert options["require"] == ["age", "sex"]
    assert options["unions"] == "leave_out"


@pytest.mark.parametrize("environment", PAPER)
def test_a_paper_preset_can_be_made_smaller(validated, environment):
    whole, small = validated(environment), validated(environment, preset_scale=8)
    assert small["denoiser"].network.width * 8 == whole["denoiser"].network.width
    for name in ALL_GENERATORS:
        assert small[name].training.max_epochs == whole[name].training.max_epochs // 8
    assert small["denoiser"].training.peak_step == 125
    for name in ("vae", "wgan_gp", "reconstruction_mlp"):
        assert small[name].hidden == [width // 8 for width in whole[name].hidden]
    assert [small["vae"].latent_dim, small["wgan_gp"].latent_dim] == [128, 32]
    assert small["wgan_gp"].critic.hidden == [width // 8 for width in whole["wgan_gp"].critic.hidden]
    for name in ("classifier", "transcriptome_classifier"):
        ours, theirs = getattr(small["evaluation"], name), getattr(whole["evaluation"], name)
        assert ours.hidden == [max(width // 8, min(width, 16)) for width in theirs.hidden]
        assert ours.epochs == 18
    unchanged = {"network", "training"}
    assert small["denoiser"].model_dump(exclude=unchanged) == whole["denoiser"].model_dump(exclude=unchanged)


def test_a_key_on_the_command_line_changes_nothing_else_of_a_smaller_preset(configured):
    chosen = {"preset": "gtex_paper", "preset_scale": 8}
    small = configured("rnaseqdb", **chosen)["parameters"]
    given = {"training": {"max_epochs": 3}}
    changed = configured("rnaseqdb", **chosen, vae=given, direct_vae=given)["parameters"]
    for name in ("vae", "direct_vae"):
        expected = small[name] | {"training": small[name]["training"] | given["training"]}
        assert changed[name] == expected


@pytest.mark.parametrize(
    ("environment", "scale", "message"),
    [("base", 8, "choose `preset`"), ("gtex_paper", 0, "1 for the size"), ("gtex_paper", 1.5, "1 for the size")],
)
def test_a_scale_that_makes_no_sense_is_refused(configured, environment, scale, message):
    with pytest.raises(Exception, match=message):
        configured(environment, preset_scale=scale)["parameters"]


@pytest.mark.parametrize("environment", PAPER)
def test_a_preset_on_the_command_line_wins_over_that_of_the_environment(configured, environment):
    theirs, ours = configured(environment)["parameters"], configured("base")["parameters"]
    chosen = configured("base", preset=environment)["parameters"]
    declined = configured(environment, preset="default")["parameters"]
    for name in ("denoiser", "vae", "wgan_gp", "reconstruction_mlp", "direct_vae"):
        assert chosen[name] == theirs[name]
        assert declined[name] == ours[name]
        assert ours[name] != theirs[name]


def test_the_papers_cohorts_are_cut_as_in_the_paper(validated):
    gtex, tcga = validated("gtex_paper")["ingestion"], validated("tcga_paper")["ingestion"]
    assert gtex.min_samples_per_tissue == 100
    assert gtex.label == "SMTS"
    assert len(set(tcga.tissues.values())) == 24
    assert tcga.tissues == validated("tcga")["ingestion"].tissues
    assert tcga.missing == "zero"


@pytest.mark.parametrize("choice", ["gtex release", "tcga packaging", "tcga classes", "local preset"])
def test_a_misspelt_choice_names_the_others(configured, choice):
    environment, parameter = choice.split()
    with pytest.raises(Exception, match=f"`{parameter}` is 'no such thing'; expected one of \\['"):
        configured(environment, **{parameter: "no such thing"})["parameters"]
