"""Missing values: what a whole cohort may do about them, and what only training samples may."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.expression.missing import impute_from_train, resolve_missing
from transcriptome_diffusion.expression.profiles import make_profiles


def profiles(values):
    values = np.asarray(values, dtype=np.float32)
    obs = pd.DataFrame(index=[f"s{i}" for i in range(len(values))])
    var = pd.DataFrame(index=[f"g{i}" for i in range(values.shape[1])])
    return make_profiles(values, obs, var, "RSEM", missing=True)


GAPS = [[1, np.nan, 3], [4, 5, 6], [7, np.nan, 9]]


def test_missing_values_are_refused_with_their_place():
    with pytest.raises(ValueError, match=r"1 of 3 genes have missing values.*sample 's0', gene 'g1'.*`missing`"):
        resolve_missing(profiles(GAPS), "refuse")


def test_incomplete_genes_are_dropped_and_counted(caplog):
    with caplog.at_level(logging.INFO):
        kept = resolve_missing(profiles(GAPS), "drop")
    assert list(kept.var_names) == ["g0", "g2"]
    assert "Dropped 1 of 3 genes" in caplog.text
    with pytest.raises(ValueError, match="every gene misses a sample"):
        resolve_missing(profiles([[np.nan]]), "drop")


def test_zero_is_the_papers_choice_and_leaves_the_input_alone():
    before = profiles(GAPS)
    assert resolve_missing(before, "zero").X[:, 1].tolist() == [0, 5, 0]
    assert np.isnan(before.X).sum() == 2


@pytest.mark.parametrize("how", ["refuse", "drop", "zero", "impute"])
def test_a_complete_cohort_passes_untouched(how):
    cohort = profiles([[1, 2], [3, 4]])
    assert resolve_missing(cohort, how) is cohort


def test_gaps_are_filled_by_the_median_of_the_training_samples_alone():
    train = profiles([[1, np.nan], [np.nan, 5], [3, 7], [8, 9]])
    filled = impute_from_train({"train": train, "test": profiles([[np.nan, np.nan], [1000, 1000]])})
    assert filled["train"].X[:, 0].tolist() == [1, 3, 3, 8]
    assert filled["train"].X[0, 1] == 7
    assert filled["test"].X.tolist() == [[3, 7], [1000, 1000]]
    assert np.isnan(train.X).sum() == 2


def test_a_gene_no_training_sample_measures_leaves_every_split(caplog):
    splits = {"train": profiles([[1, np.nan], [2, np.nan]]), "test": profiles([[3, 4], [np.nan, 5]])}
    with caplog.at_level(logging.WARNING):
        filled = impute_from_train(splits)
    assert [list(part.var_names) for part in filled.values()] == [["g0"], ["g0"]]
    assert "Dropped 1 genes that no training sample measures" in caplog.text
