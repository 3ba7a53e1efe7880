"""Readers by name."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from transcriptome_diffusion.cohorts.readers import READERS, read_cohort


def test_an_unknown_reader_is_refused_with_the_list_of_known_ones():
    with pytest.raises(ValueError, match=r"'gtexx'.*rnaseqdb.*simulated.*simulated_oracle"):
        read_cohort("gtexx", None)


def test_a_reader_of_files_asks_for_its_path():
    with pytest.raises(ValueError, match="'rnaseqdb' needs a path"):
        read_cohort("rnaseqdb", None)


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_misspelt_option_is_refused(name, tmp_path):
    with pytest.raises(ValidationError, match="smaples"):
        read_cohort(name, tmp_path, {"smaples": 3})


@pytest.mark.parametrize("name", sorted(set(READERS) - {"archs4", "none", "simulated", "simulated_oracle"}))
def test_every_reader_of_files_but_that_of_integer_counts_is_told_what_becomes_of_negative_values(name):
    for negative in ("refuse", "zero", "keep"):
        assert READERS[name].options.model_validate({"negative": negative}).negative == negative
    with pytest.raises(ValidationError, match="negative"):
        READERS[name].options.model_validate({"negative": "clip"})


def test_the_simulated_readers_take_options_and_draw_different_samples():
    options = {"samples": 24, "tissues": 2, "targets": 5}
    cohort, oracle = (read_cohort(name, None, options) for name in ("simulated", "simulated_oracle"))
    assert cohort.shape == oracle.shape == (24, 978 + 5)
    assert set(cohort.obs["source"]) == {"simulated"}
    assert set(oracle.obs["source"]) == {"simulated_oracle"}
    assert not set(cohort.obs["donor"]) & set(oracle.obs["donor"])
    assert abs(cohort.X - oracle.X).max() > 1
