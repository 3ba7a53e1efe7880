"""The defaults of the options are the `default` presets of conf/base: a notebook fits what the command line fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kedro.config import OmegaConfigLoader

from transcriptome_diffusion.generators.options import GenerationOptions, SamplingOptions
from transcriptome_diffusion.generators.registry import GENERATORS, model_name, trained_models
from transcriptome_diffusion.options import Options
from transcriptome_diffusion.settings import CONFIG_LOADER_ARGS

SAMPLERS = {name: spec.sampler for name, spec in GENERATORS.items() if spec.sampler}


@pytest.fixture(scope="module")
def parameters(project: Path) -> dict[str, Any]:
    settings: dict[str, Any] = {**CONFIG_LOADER_ARGS, "runtime_params": {"preset": "default"}}
    return OmegaConfigLoader(str(project / "conf"), env="base", **settings)["parameters"]


def differences(configured: Options, default: Options, but: frozenset[str]) -> dict[str, tuple[Any, Any]]:
    """Fields whose values differ, by dotted name, (configured, default); those in ``but`` are left out."""
    found = {}
    for name in type(configured).model_fields.keys() - but:
        ours, theirs = getattr(configured, name), getattr(default, name)
        if isinstance(ours, Options):
            found |= {f"{name}.{key}": pair for key, pair in differences(ours, theirs, but).items()}
        elif ours != theirs:
            found[name] = ours, theirs
    return found


@pytest.mark.parametrize("generator", GENERATORS)
def test_the_options_of_every_generator_are_by_default_those_of_conf_base(
    generator: str, parameters: dict[str, Any]
) -> None:
    options = GENERATORS[generator].options
    configured = options.model_validate(parameters[model_name(generator)])
    assert differences(configured, options(), frozenset({"seed"})) == {}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_are_by_default_those_of_conf_base(sampler: str, parameters: dict[str, Any]) -> None:
    options = SAMPLERS[sampler]
    assert options is not None
    configured = options.model_validate(parameters[sampler])
    assert configured.model_dump()["name"] == sampler
    # one model serves several samplers, which differ in these
    assert differences(configured, options(), frozenset({"name", "steps"})) == {}


def test_sampling_is_by_default_that_of_conf_base(parameters: dict[str, Any]) -> None:
    configured = SamplingOptions.model_validate(parameters["sampling"])
    assert differences(configured, SamplingOptions(seed=0), frozenset({"seed"})) == {}


def test_generation_is_by_default_that_of_conf_base(parameters: dict[str, Any]) -> None:
    configured = GenerationOptions.model_validate(parameters["generation"])
    assert differences(configured, GenerationOptions(), frozenset({"seed", "counts_of"})) == {}


@pytest.mark.parametrize("model", trained_models())
def test_a_changed_value_is_found(model: str, parameters: dict[str, Any]) -> None:
    options = GENERATORS.get(model, GENERATORS["ddpm"]).options
    changed = options.model_validate({**parameters[model], "conditions": ["study"]})
    assert differences(changed, options(), frozenset({"seed"})) == {"conditions": (["study"], ["tissue"])}
