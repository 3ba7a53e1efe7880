"""Profiles and what is asked of their values."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.expression import profiles
from transcriptome_diffusion.expression.filters import drop_small_tissues
from transcriptome_diffusion.expression.labels import label_samples
from transcriptome_diffusion.expression.missing import resolve_missing
from transcriptome_diffusion.expression.options import IngestionOptions
from transcriptome_diffusion.expression.profiles import blocks_of, find_unsound, make_profiles
from transcriptome_diffusion.expression.units import to_log2


@pytest.fixture
def cohort(monkeypatch):
    """Ten samples in blocks of three."""
    monkeypatch.setattr(profiles, "BLOCK", 3)
    obs = pd.DataFrame({"source": list("aaabbbbccc")}, index=[f"s{i}" for i in range(10)])
    return make_profiles(np.arange(100, 150).reshape(10, 5), obs, pd.DataFrame(index=list("vwxyz")), "TPM")


def test_blocks_are_all_rows_once_of_a_cohort_and_of_a_view(cohort):
    for part in (cohort, cohort[[8, 1, 5, 0]], cohort[2:9, ["x", "v"]]):
        pieces = list(blocks_of(part))
        np.testing.assert_array_equal(np.concatenate([values for _, values in pieces]), part.X)
        np.testing.assert_array_equal(np.concatenate([part.obs_names[rows] for rows, _ in pieces]), part.obs_names)
        assert max(len(values) for _, values in pieces) == 3


def test_unsound_values_are_counted_over_all_blocks_and_the_first_is_placed(cohort):
    values = np.array(cohort.X)
    assert find_unsound(values) is None
    values[4, 2] = values[7, 0] = np.nan
    assert find_unsound(values) == (2, 4, 2)
    assert find_unsound(values, missing=True) is None
    values[9, 1] = -np.inf
    assert find_unsound(values, missing=True) == (1, 9, 1)
    with pytest.raises(ValueError, match="3 of 50 values are NaN or infinite, the first in sample 's4', gene 'x'"):
        make_profiles(values, cohort.obs, cohort.var, "TPM")


def test_tissues_and_logarithm_never_hold_the_values_more_than_once_beside_the_cohort(monkeypatch):
    monkeypatch.setattr(profiles, "BLOCK", 50)
    obs = pd.DataFrame({"source": ["a"] * 100 + ["b"] * 900 + ["c"] * 1000}, index=[f"s{i}" for i in range(2000)])
    cohort = make_profiles(np.full((2000, 1000), 127), obs, pd.DataFrame(index=[f"g{i}" for i in range(1000)]), "TPM")
    tracemalloc.start()
    options = IngestionOptions(label="source", tissues={"a": "lung", "b": "liver", "c": "liver"})
    kept = drop_small_tissues(label_samples(cohort, options), 200)
    logged = to_log2(resolve_missing(kept, "refuse"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert logged.shape == (1900, 1000)
    assert (logged.X == 7).all()
    assert cohort.X.max() == 127
    assert "tissue" not in cohort.obs
    assert peak < 1.3 * logged.X.nbytes
