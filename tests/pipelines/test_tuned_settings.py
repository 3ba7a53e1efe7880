"""How the search meets Kedro: which generators a run covers, and that its result is read back."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import get_type_hints

import pandas as pd
import pytest
import yaml
from kedro.config import OmegaConfigLoader
from kedro.framework.project import settings
from kedro.framework.startup import bootstrap_project

from transcriptome_diffusion.experiments.options import Dimension, TuningOptions
from transcriptome_diffusion.experiments.tuning import Found, current_settings
from transcriptome_diffusion.generators.diffusion.sizes import resolve_sizes
from transcriptome_diffusion.generators.options import DenoiserOptions, SamplerOptions
from transcriptome_diffusion.generators.registry import GENERATORS, trained_models
from transcriptome_diffusion.pipelines.tuning.nodes import SearchNode, as_file, is_chosen

SPACE = {"width": Dimension(kind="int", low=1, high=9)}
TUNING = TuningOptions(spaces={"vae": SPACE})
FOUND = Found(
    settings={"beta": 1.0e-5, "training.max_steps": 7, "hidden": [8, 4], "training.gradient_clip": None},
    value=0.9,
    deviation=0.01,
    first=0.8,
    table=pd.DataFrame(),
    trials=30,
    seconds=12.3,
    study="vae-0123",
)
BASE = """
_vae_presets:
  default: {beta: 1, dropout: 0.2, hidden: [1, 2, 3], training: {max_steps: 3, batch_size: 2}}
  gtex_paper: {beta: 9, dropout: 0.1, hidden: [5], training: {max_steps: 33, batch_size: 2}}
vae: ${tuned:vae, ${runtime_params:tuned, null}, ${choice:preset, ${runtime_params:preset, default}, ${_vae_presets}}}
_wgan_gp: {latent_dim: 4}
wgan_gp: ${tuned:wgan_gp, ${runtime_params:tuned, null}, ${_wgan_gp}}
"""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A configuration with presets of ``vae`` in base and a changed batch size in the environment ``mine``."""
    for name in ("base", "mine", "local"):
        (tmp_path / name).mkdir()
    (tmp_path / "base" / "parameters_baselines.yml").write_text(BASE)
    (tmp_path / "mine" / "parameters.yml").write_text("vae: {training: {batch_size: 5}}\n")
    return tmp_path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """What a search found, as it is written."""
    path = tmp_path / "found" / "vae.yml"
    path.parent.mkdir()
    path.write_text(as_file("vae", FOUND, TUNING, "600 training and 80 validation profiles"))
    return path


@pytest.fixture
def parameters(conf: Path, project: Path):
    bootstrap_project(project)  # the settings that a run uses

    def load(env: str = "local", **runtime_params):
        loader = OmegaConfigLoader(str(conf), env=env, runtime_params=runtime_params, **settings.CONFIG_LOADER_ARGS)
        return loader["parameters"]

    return load


TUNED = {
    "beta": 1.0e-5,
    "dropout": 0.2,
    "hidden": [8, 4],
    "training": {"max_steps": 7, "batch_size": 2, "gradient_clip": None},
}


def test_a_run_uses_the_file_it_names_and_no_other(parameters, file):
    assert parameters()["vae"]["beta"] == 1
    found = parameters(tuned=str(file))
    assert found["vae"] == TUNED
    assert found["wgan_gp"] == {"latent_dim": 4}


def test_a_folder_stands_for_all_files_in_it(parameters, file):
    (file.parent / "wgan_gp.yml").write_text("wgan_gp: {latent_dim: 5}\n")
    (file.parent / "studies.db").write_text("no settings")
    found = parameters(tuned=str(file.parent))
    assert (found["vae"], found["wgan_gp"]) == (TUNED, {"latent_dim": 5})


def test_a_preset_of_the_paper_stays_as_published(parameters):
    expected = {"beta": 9, "dropout": 0.1, "hidden": [5], "training": {"max_steps": 33, "batch_size": 2}}
    assert parameters(preset="gtex_paper")["vae"] == expected


def test_an_environment_and_the_command_line_overrule_the_file(parameters, file):
    found = parameters("mine", tuned=str(file))["vae"]
    assert found["training"] == {"max_steps": 7, "batch_size": 5, "gradient_clip": None}
    assert parameters(tuned=str(file), vae={"beta": 4})["vae"]["beta"] == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("vea: {beta: 2}", r"vae.yml sets \['vea'\]; expected settings of .*'vae'"),
        ("vae: {training: {max_step: 2}}", r"vae.yml does not fit the options of vae: training.max_step: Extra"),
        ("vae: {beta: much}", r"vae.yml does not fit the options of vae: beta: .*number"),
        ("just words", "just words"),
    ],
)
def test_what_a_file_may_not_say_is_named(parameters, file, text, said):
    file.write_text(text)
    with pytest.raises(Exception, match=said):
        parameters(tuned=str(file))


def test_a_file_that_is_not_there_is_named(parameters, tmp_path):
    with pytest.raises(Exception, match=r"nowhere.yml, found no such file.*kedro run --pipelines tuning"):
        parameters(tuned=str(tmp_path / "nowhere.yml"))


def test_the_file_says_where_it_comes_from_and_holds_only_what_was_searched(file):
    text = file.read_text()
    assert "kedro run --pipelines tuning --nodes tuning.search_vae" in text
    assert "600 training and 80 validation profiles; 30 trials, 12 seconds" in text
    assert "0.9000, s.d. 0.0100" in text
    assert yaml.safe_load(text) == {
        "vae": {"beta": 1.0e-5, "training": {"max_steps": 7, "gradient_clip": None}, "hidden": [8, 4]}
    }


def test_a_run_covers_what_has_a_space_or_what_is_listed():
    assert is_chosen("vae", TUNING)
    assert not is_chosen("class_kde", TUNING)
    listed = TUNING.model_copy(update={"generators": ["class_kde"]})
    assert is_chosen("class_kde", listed)
    assert not is_chosen("vae", listed)


def test_a_preset_cannot_be_searched():
    with pytest.raises(ValueError, match="gtex_paper"):
        is_chosen("vae", TUNING.model_copy(update={"preset": "gtex_paper"}))


def test_a_generator_that_is_not_searched_leaves_the_files_of_an_earlier_search_alone():
    node = SearchNode("class_kde", trained_models()["class_kde"])
    assert node(None, None, None, TUNING, None, None) == ({}, {})


@pytest.mark.parametrize("name", trained_models())
def test_a_search_can_be_sent_to_another_process_and_its_settings_are_validated(name):
    spec = trained_models()[name]
    node = pickle.loads(pickle.dumps(SearchNode(name, spec)))  # noqa: S301
    assert get_type_hints(node)["options"] is spec.options
    assert get_type_hints(node)["tuning"] is TuningOptions


@pytest.mark.parametrize("environment", ["local", "rnaseqdb"])
def test_the_spaces_of_the_project_fit_its_generators_and_their_current_settings(project, environment):
    bootstrap_project(project)
    loader = OmegaConfigLoader(str(project / "conf"), env=environment, **settings.CONFIG_LOADER_ARGS)
    block = loader["parameters"]
    tuning = TuningOptions.model_validate(block["tuning"])
    models = trained_models()
    assert set(tuning.spaces) == {name for name, spec in models.items() if spec.trained}
    for name, space in tuning.spaces.items():
        options = models[name].options.model_validate(block[name])
        if isinstance(options, DenoiserOptions):  # as the search does, which knows how many profiles there are
            options, _ = resolve_sizes(options, 600)
        assert current_settings(name, space, options)
    for sampler in (name for name, spec in GENERATORS.items() if spec.sampler):
        SamplerOptions.model_validate(block[sampler])


def test_every_model_of_the_project_can_be_given_tuned_settings(project, tmp_path):
    bootstrap_project(project)
    for name in trained_models():
        file = tmp_path / f"{name}.yml"
        file.write_text(f"{name}: {{seed: 987}}\n")
        loader = OmegaConfigLoader(
            str(project / "conf"), env="local", runtime_params={"tuned": str(file)}, **settings.CONFIG_LOADER_ARGS
        )
        assert loader["parameters"][name]["seed"] == 987
