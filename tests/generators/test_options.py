"""A former name of an option is refused with an error that says the present one."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from transcriptome_diffusion.generators.options import CoordinateOptions
from transcriptome_diffusion.generators.registry import trained_models

SPECS = {name: spec for name, spec in trained_models().items() if issubclass(spec.options, CoordinateOptions)}
FORMER = {
    "loudness": (0.5, "log_scale_share"),
    "learnt_axes": (0.5, "components_per_sample"),
    "learnt_variance": (0.5, "component_variance"),
}


@pytest.mark.parametrize("model", SPECS)
@pytest.mark.parametrize("former", FORMER)
def test_a_former_name_says_the_present_one(model: str, former: str) -> None:
    value, present = FORMER[former]
    with pytest.raises(ValidationError, match=f"`{former}` is now called `{present}`"):
        SPECS[model].options.model_validate({former: value})
    accepted: Any = SPECS[model].options.model_validate({present: value})
    assert getattr(accepted, present) == value


def test_several_former_names_are_said_at_once_and_a_misspelt_one_is_still_unknown() -> None:
    options = SPECS["vae"].options
    with pytest.raises(ValidationError, match=r"`loudness` is now called .*; `learnt_axes` is now called"):
        options.model_validate({"loudness": 0.5, "learnt_axes": 0.5})
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        options.model_validate({"loudnes": 0.5})
