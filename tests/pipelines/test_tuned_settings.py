"""How the search meets Kedro: which generators a run covers, and that its result is read back."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml
from kedro.config import OmegaConfigLoader
from kedro.framework.project import settings
from kedro.framework.startup import bootstrap_project
from omegaconf import OmegaConf

from transcriptome_diffusion.experiments.options import Dimension, TuningOptions
from transcriptome_diffusion.experiments.tuning import Found, current_settings
from transcriptome_diffusion.generators.options import SamplerOptions
from transcriptome_diffusion.generators.registry import BASELINES, DENOISER, SAMPLERS
from transcriptome_diffusion.pipelines.tuning.nodes import (
    as_parameters_file,
    is_chosen,
    refuse_a_second_source,
    searching,
    tuned_file,
)

SPACE = {"width": Dimension(kind="int", low=1, high=9)}
TUNING = TuningOptions(parameters_folder="conf/mine", spaces={"vae": SPACE})
FOUND = Found(
    settings={"beta": 1.0e-5, "network.width": 7, "hidden": [8, 4], "clip": None},
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
  default: {beta: 1, clip: 2.0, hidden: [1, 2, 3], network: {width: 3, depth: 2}}
  gtex_paper: {beta: 9, clip: 1.0, hidden: [5], network: {width: 33, depth: 2}}
vae: ${_vae_presets.${runtime_params:preset, ${globals:preset}}}
"""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A configuration with presets of ``vae`` in base, and what a search found in the environment ``mine``."""
    for name in ("base", "mine", "local"):
        (tmp_path / name).mkdir()
    (tmp_path / "base" / "parameters_baselines.yml").write_text(BASE)
    (tmp_path / "base" / "globals.yml").write_text("preset: default\n")
    text = as_parameters_file("vae", FOUND, TUNING, "600 training and 80 validation profiles")
    tuned_file(tmp_path / "mine", "vae").write_text(text)
    return tmp_path


def parameters(conf: Path, project: Path, env: str | None = "mine", **runtime_params):
    bootstrap_project(project)  # the settings that a run uses
    loader = OmegaConfigLoader(str(conf), env=env, runtime_params=runtime_params, **settings.CONFIG_LOADER_ARGS)
    return loader["parameters"]["vae"]


def test_a_run_picks_the_tuned_settings_up_and_keeps_the_others(conf, project):
    expected = {"beta": 1.0e-5, "clip": None, "hidden": [8, 4], "network": {"width": 7, "depth": 2}}
    assert parameters(conf, project) == expected
    assert parameters(conf, project, preset="default") == expected


def test_a_preset_of_the_paper_stays_as_published(conf, project):
    expected = {"beta": 9, "clip": 1.0, "hidden": [5], "network": {"width": 33, "depth": 2}}
    assert parameters(conf, project, preset="gtex_paper") == expected


def test_another_environment_and_the_command_line_are_not_overruled(conf, project):
    assert parameters(conf, project, env=None)["beta"] == 1
    assert parameters(conf, project, vae={"beta": 4})["beta"] == 4


def test_the_file_says_where_it_comes_from_and_holds_only_what_was_searched(conf):
    text = tuned_file(conf / "mine", "vae").read_text()
    assert "kedro run --pipelines tuning --nodes tuning.search_vae --env mine" in text
    assert "600 training and 80 validation profiles; 30 trials, 12 seconds" in text
    assert "0.9000, s.d. 0.0100" in text
    assert yaml.safe_load(text)["_vae_tuned"] == {
        "default": {"beta": 1.0e-5, "network": {"width": 7}, "hidden": [8, 4], "clip": None}
    }


@pytest.mark.parametrize(
    "other", ["parameters.yml", "parameters_more.yaml", "deep/parameters_x.yml", "parameters/x.yml"]
)
def test_a_second_source_of_the_same_key_is_refused_before_the_search(conf, other):
    folder = conf / "mine"
    refuse_a_second_source(folder, "vae")  # the file of an earlier search is no second source
    path = folder / other
    path.parent.mkdir(exist_ok=True)
    path.write_text("wgan_gp: {x: 1}\n")
    refuse_a_second_source(folder, "vae")
    path.write_text("vae: {beta: 2}\n")
    with pytest.raises(ValueError, match=r"sets `vae`.*parameters_tuned_vae.yml.*conf/base"):
        refuse_a_second_source(folder, "vae")


def test_what_is_refused_would_depend_on_the_order_of_files(conf):
    tuned = OmegaConf.load(tuned_file(conf / "mine", "vae"))
    other = OmegaConf.create({"vae": {"beta": 2}})
    OmegaConf.register_new_resolver("runtime_params", lambda key, default: default, replace=True)
    merged = [OmegaConf.merge(*files)["vae"] for files in ((tuned, other), (other, tuned))]
    assert merged[0]["beta"] == 2
    assert merged[1]["beta"] == 1.0e-5


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        refuse_a_second_source(tmp_path / "nowhere", "vae")


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
    assert searching("class_kde", BASELINES["class_kde"])(None, None, None, TUNING, None, None) == ({}, {})


@pytest.mark.parametrize("environment", ["local", "rnaseqdb"])
def test_the_spaces_of_the_project_fit_its_generators_and_their_current_settings(project, environment):
    bootstrap_project(project)
    loader = OmegaConfigLoader(str(project / "conf"), env=environment, **settings.CONFIG_LOADER_ARGS)
    block = loader["parameters"]
    tuning = TuningOptions.model_validate(block["tuning"])
    assert tuning.parameters_folder == f"conf/{environment}"
    entries = {**BASELINES, "denoiser": DENOISER}
    assert set(tuning.spaces) == {name for name, entry in entries.items() if "training" in entry.options.model_fields}
    for name, space in tuning.spaces.items():
        assert current_settings(name, space, entries[name].options.model_validate(block[name]))
    for sampler in SAMPLERS:
        SamplerOptions.model_validate(block[sampler])
