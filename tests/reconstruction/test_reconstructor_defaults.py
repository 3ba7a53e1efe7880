"""The defaults of the code are those of the command line."""

from pathlib import Path

import pytest

from transcriptome_diffusion import settings
from transcriptome_diffusion.reconstruction import RECONSTRUCTORS

CONF = Path(__file__).parents[2] / "conf"


@pytest.mark.parametrize("name", RECONSTRUCTORS)
def test_options_without_parameters_are_those_of_the_base_environment(name):
    loader = settings.CONFIG_LOADER_CLASS(str(CONF), env="base", **settings.CONFIG_LOADER_ARGS)
    options = RECONSTRUCTORS[name].options
    block = options.model_validate(loader["parameters"][f"reconstruction_{name}"]).model_dump()
    expected = options().model_dump()
    if "seed" in block:
        block["seed"] = expected["seed"]
    assert block == expected
