"""Sizes left to the number of training profiles: today's at 600 and below, larger for larger cohorts, numbers kept."""

from __future__ import annotations

from typing import Any

import pytest

from transcriptome_diffusion.generators.diffusion.sizes import LARGE, SMALL, automatic_sizes, resolve_sizes
from transcriptome_diffusion.generators.options import DenoiserOptions, DiffusionOptions, FlowMatchingOptions

#: found by a search on 600 profiles of RNAseqDB, docs/decisions/0006
FOUND: dict[type[DenoiserOptions], dict[str, Any]] = {
    DiffusionOptions: {
        "network.width": 128,
        "network.depth": 3,
        "network.dropout": 0.43,
        "components_per_sample": 0.4,
        "training.batch_size": 128,
        "training.max_steps": 1200,
        "training.validate_every": 50,
        "training.weight_decay": 0.007,
    },
    FlowMatchingOptions: {
        "network.width": 512,
        "network.depth": 3,
        "network.dropout": 0.62,
        "components_per_sample": 0.36,
        "training.batch_size": 128,
        "training.max_steps": 2000,
        "training.validate_every": 50,
        "training.weight_decay": 0.8,
    },
}


@pytest.mark.parametrize("options", FOUND)
@pytest.mark.parametrize("profiles", [100, 420, SMALL])
def test_small_cohorts_have_the_sizes_that_the_search_found(options: type[DenoiserOptions], profiles: int) -> None:
    assert automatic_sizes(options(), profiles) == FOUND[options]


@pytest.mark.parametrize("options", FOUND)
def test_sizes_grow_with_the_cohort_and_dropout_falls(options: type[DenoiserOptions]) -> None:
    found = [automatic_sizes(options(), profiles) for profiles in (SMALL, 1500, 5000, LARGE, 10 * LARGE)]
    for setting, rises in {"training.max_steps": True, "network.depth": True, "network.dropout": False}.items():
        values = [sizes[setting] for sizes in found]
        assert values == sorted(values, reverse=not rises)
        assert len(set(values)) > 1
    cohorts = (SMALL, 1500, 5000, LARGE)
    components = [round(sizes["components_per_sample"] * n) for sizes, n in zip(found[:-1], cohorts, strict=True)]
    assert components == sorted(components)
    assert found[-2] == found[-1]


def test_numbers_are_taken_as_they_are_and_the_rest_is_filled_in() -> None:
    options = DiffusionOptions.model_validate({"network": {"width": 96}, "training": {"max_steps": 400}})
    resolved, found = resolve_sizes(options, 5000)
    assert (resolved.network.width, resolved.training.max_steps) == (96, 400)
    assert resolved.network.depth == found["network.depth"]
    assert set(found) == set(FOUND[DiffusionOptions]) - {"network.width", "training.max_steps"}
    assert found["training.validate_every"] == 50  # as few steps need
    assert resolve_sizes(resolved, 100) == (resolved, {})
