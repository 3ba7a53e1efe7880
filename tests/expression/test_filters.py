"""Small tissues and expressed genes."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.expression.filters import drop_small_tissues, expressed_genes
from transcriptome_diffusion.expression.profiles import make_profiles


@pytest.fixture
def cohort():
    sources = ["blca"] * 3 + ["bladder"] * 2 + ["cervix"] * 2
    obs = pd.DataFrame({"source": sources}, index=[f"s{i}" for i in range(7)])
    values = np.arange(21).reshape(7, 3) * [0, 1, 2]
    values[:5, 1] = values[0, 2] = 0
    return make_profiles(values, obs, pd.DataFrame(index=["silent", "rare", "common"]), "FPKM")


def test_small_tissues_are_dropped_and_named(cohort, caplog):
    cohort.obs["tissue"] = cohort.obs["source"]
    with caplog.at_level(logging.INFO):
        kept = drop_small_tissues(cohort, 3)
    assert set(kept.obs["tissue"]) == {"blca"}
    assert "fewer than 3 samples: bladder (2), cervix (2)" in caplog.text
    with pytest.raises(ValueError, match=r"no tissue has 4 samples.*blca \(3\)"):
        drop_small_tissues(cohort, 4)


def test_genes_are_kept_by_the_share_of_samples_above_zero(cohort):
    assert list(expressed_genes(cohort, 0)) == ["silent", "rare", "common"]
    assert list(expressed_genes(cohort, 2 / 7)) == ["rare", "common"]
    assert list(expressed_genes(cohort, 0.5)) == ["common"]
    with pytest.raises(ValueError, match=r"the best reaches 0\.86"):
        expressed_genes(cohort, 1)


def test_a_single_class_is_said_before_anything_is_trained(cohort, caplog):
    cohort.obs["tissue"] = cohort.obs["source"]
    drop_small_tissues(cohort, 2)
    assert not caplog.records
    assert drop_small_tissues(cohort, 3).n_obs == 3
    assert "The cohort has one class, 'blca'" in caplog.text
