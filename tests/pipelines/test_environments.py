"""Every folder of conf/ makes a catalog and parameters that the nodes accept, and the paper's two carry its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kedro.config import OmegaConfigLoader
from kedro.framework.project import pipelines as registered
from kedro.framework.project import settings
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog
from kedro.validation.parameter_validator import ParameterValidator

from transcriptome_diffusion.cohorts.options import DownloadOptions
from transcriptome_diffusion.cohorts.readers import READERS
from transcriptome_diffusion.contracts import ExpressionContract
from transcriptome_diffusion.generators.registry import trained_models

CONF = Path(__file__).resolve().parents[2] / "conf"
ENVIRONMENTS = sorted(path.name for path in CONF.iterdir() if path.is_dir())
PUBLISHED = {"gtex": 4, "gtex_paper": 4, "tcga": 2, "tcga_paper": 33, "toil": 3, "rnaseqdb": 52}


@pytest.fixture(scope="module")
def pipelines(project):
    bootstrap_project(project)
    return dict(registered)


@pytest.fixture
def configured(project, pipelines):
    def load(environment: str, **runtime_params: Any) -> OmegaConfigLoader:
        return OmegaConfigLoader(
            str(project / "conf"), env=environment, runtime_params=runtime_params, **settings.CONFIG_LOADER_ARGS
        )

    return load


@pytest.fixture
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
    for name in ("raw_cohort", "oracle_cohort"):
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


# Lacan et al. (2026), doi:10.1186/s12859-026-06470-8
PAPER = {
    "gtex_paper": {
        "split": {"train": 9796, "validation": 2448, "test": 5000},
        "denoiser": (8192, 5e-4),
        "vae": ([8192, 4096, 4096, 2048], 256, 8e-4),
        "wgan_gp": (128, [1024, 4096], [8192, 256], 1024, 2.2e-3, 5.8e-4),
        "landmark classifier": ([1024, 1024], 0.3, 1e-4, 64, "adamw"),
        "classifier of all genes": ([2048, 8192], 0.5, 5e-4, 1024, "adamw"),
    },
    "tcga_paper": {
        "split": {"train": 6499, "validation": 1625, "test": 1625},
        "denoiser": (4096, 1e-3),
        "vae": ([2048, 8192, 256, 4096], 2048, 1e-3),
        "wgan_gp": (256, [1024, 8192], [4096, 128], 64, 2.8e-4, 1.2e-4),
        "landmark classifier": ([256, 16], 0.5, 4e-3, 2048, "adamw"),
        "classifier of all genes": ([1024, 1024], 0.5, 1.25e-2, 64, "sgd"),
    },
}


@pytest.mark.parametrize("environment", PAPER)
def test_the_papers_environments_carry_its_numbers_without_any_parameter_given(validated, environment):
    block, paper = validated(environment), PAPER[environment]
    split = block["split"]
    assert (split.strategy, split.seed) == ("random", 42)
    assert split.sizes.model_dump(exclude={"surplus"}) == paper["split"]

    denoiser = block["denoiser"]
    assert (denoiser.network.kind, denoiser.network.depth, denoiser.network.dropout) == ("paper", 2, 0.1)
    assert (denoiser.network.width, denoiser.training.learning_rate) == paper["denoiser"]
    assert denoiser.schedule.model_dump() == {
        "kind": "quadratic",
        "timesteps": 1000,
        "beta_start": 1e-4,
        "beta_end": 0.02,
    }
    assert (denoiser.prediction, denoiser.times.kind) == ("eps", "antithetic")
    training = denoiser.training
    assert (training.batch_size, training.max_epochs, training.ema_decay) == (2048, 15000, 0.999)
    assert (training.optimizer, training.learning_rate_schedule) == ("adam", "one_cycle")
    assert [block[name].steps for name in ("ddpm", "ddim")] == [1000, 1000]

    vae, gan = block["vae"], block["wgan_gp"]
    assert (vae.hidden, vae.training.batch_size, vae.training.learning_rate) == paper["vae"]
    assert (vae.latent_dim, vae.training.optimizer, vae.training.max_epochs) == (128, "adam", 1000)
    assert (
        gan.latent_dim,
        gan.hidden,
        gan.critic.hidden,
        gan.training.batch_size,
        gan.training.learning_rate,
        gan.critic.learning_rate,
    ) == paper["wgan_gp"]
    assert (gan.critic.steps, gan.critic.gradient_penalty) == (5, 10)
    assert (gan.training.optimizer, gan.training.max_epochs) == ("rmsprop", 1000)
    assert {block[name].scaling for name in ("denoiser", "vae", "wgan_gp")} == {"linear_max_abs"}
    assert {block[name].space for name in ("vae", "wgan_gp")} == {"genes"}

    mlp = block["reconstruction_mlp"]
    assert (mlp.hidden, mlp.dropout, mlp.batch_norm) == ([1024, 2048, 4096], 0.5, True)
    assert (mlp.training.learning_rate, mlp.training.batch_size, mlp.training.max_epochs) == (1e-3, 2048, 250)
    assert mlp.training.validate_every == paper["split"]["train"] // 2048  # once an epoch
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
