import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.generators.memoriser import memorise


@pytest.fixture
def train():
    values = np.random.default_rng(0).normal(8, 1, size=(60, 5))
    obs = pd.DataFrame({"tissue": np.tile(["liver", "lung", "skin"], 20)}, index=[f"s{i}" for i in range(60)])
    return make_profiles(values, obs, pd.DataFrame(index=list("abcde")), "log2(FPKM + 1)")


def test_every_profile_is_a_training_profile_of_the_tissue_asked_for(train):
    labels = pd.DataFrame({"tissue": ["skin", "liver"] * 50}, index=["same"] * 100)
    copies = memorise(train, labels, ["tissue"], seed=0)
    assert copies.obs["tissue"].tolist() == labels["tissue"].tolist()
    assert copies.obs_names.is_unique
    assert copies.uns["unit"] == train.uns["unit"]
    assert copies.uns["generator"]["name"] == "memoriser"
    for profile, tissue in zip(copies.X, copies.obs["tissue"], strict=True):
        original = np.flatnonzero((profile == train.X).all(axis=1))
        assert train.obs["tissue"].iloc[original].tolist() == [tissue]
    # with replacement, and from all over the class
    assert 15 < len(np.unique(copies.X[::2], axis=0)) <= 20


def test_the_seed_decides(train):
    labels = pd.DataFrame({"tissue": ["skin"] * 30})
    first, again, other = (memorise(train, labels, ["tissue"], seed).X for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_an_unknown_tissue_is_refused(train):
    with pytest.raises(ValueError, match="unknown tissue"):
        memorise(train, pd.DataFrame({"tissue": ["brain"]}), ["tissue"], seed=0)
