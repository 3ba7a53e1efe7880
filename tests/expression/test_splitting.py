"""Splits by donor and by sample."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from sklearn.model_selection import train_test_split

from transcriptome_diffusion.expression.options import SplitOptions, SplitSizes
from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.expression.splitting import assign_splits, find_twins, summarise_splits, take_splits


def make_cohort(donors: dict[str, list[str]]):
    """Profiles whose tissues' samples come from the donors listed."""
    rows = [(tissue, donor) for tissue, names in donors.items() for donor in names]
    obs = pd.DataFrame(rows, columns=["tissue", "donor"]).set_index(pd.Index([f"s{i}" for i in range(len(rows))]))
    return make_profiles(np.zeros((len(rows), 2)), obs, pd.DataFrame(index=["a", "b"]), "FPKM")


def split_profiles(profiles, options):
    """The parts by name."""
    return take_splits(profiles, assign_splits(profiles.obs, options))


@pytest.fixture
def cohort():
    """Two hundred donors; half give both tissues, and every fourth gives a tissue twice."""
    donors = [f"d{i}" for i in range(200)]
    return make_cohort({"lung": donors + donors[::4], "liver": donors[:100], "rare": donors[150:165]})


@pytest.mark.parametrize("seed", range(5))
def test_no_donor_is_in_two_splits_and_every_tissue_is_in_each(cohort, seed):
    splits = split_profiles(cohort, SplitOptions(seed=seed))
    assert list(splits) == ["train", "validation", "test"]
    donors = [set(part.obs["donor"]) for part in splits.values()]
    assert sum(map(len, donors)) == cohort.obs["donor"].nunique()
    assert sorted(np.concatenate([part.obs_names for part in splits.values()])) == sorted(cohort.obs_names)
    shares = {name: part.n_obs / cohort.n_obs for name, part in splits.items()}
    assert shares == pytest.approx({"train": 0.7, "validation": 0.1, "test": 0.2}, abs=0.03)
    for part in splits.values():
        assert set(part.obs["tissue"]) == {"lung", "liver", "rare"}
        lung = (part.obs["tissue"] == "lung").mean()
        assert lung == pytest.approx((cohort.obs["tissue"] == "lung").mean(), abs=0.1)


def test_the_seed_decides_the_split(cohort):
    first, again, other = (
        split_profiles(cohort, SplitOptions(seed=seed))["test"].obs_names.tolist() for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_the_random_split_of_the_paper_takes_samples_and_lets_donors_leak(cohort):
    cohort = cohort[cohort.obs["tissue"] != "rare"].copy()
    splits = split_profiles(cohort, SplitOptions(strategy="random"))
    assert sum(part.n_obs for part in splits.values()) == cohort.n_obs
    assert splits["test"].n_obs / cohort.n_obs == pytest.approx(0.2, abs=0.01)
    assert set(splits["test"].obs["donor"]) & set(splits["train"].obs["donor"])


def test_sizes_give_the_split_of_the_papers_code(cohort):
    """Test samples first, then the validation samples, both by scikit-learn's unstratified shuffle."""
    sizes = SplitSizes(train=200, validation=60, test=105)
    splits = split_profiles(cohort, SplitOptions(strategy="random", sizes=sizes, seed=42))
    rest, test = train_test_split(cohort.obs_names, test_size=105, random_state=42)
    train, validation = train_test_split(rest, test_size=60, random_state=42)
    for name, expected in (("train", train), ("validation", validation), ("test", test)):
        assert splits[name].obs_names.tolist() == [sample for sample in cohort.obs_names if sample in set(expected)]


def test_sizes_that_do_not_add_up_to_the_cohort_are_refused_with_both(cohort):
    for sizes in ({"train": 200, "validation": 60, "test": 104}, {"train": 201, "validation": 60, "test": 105}):
        with pytest.raises(
            ValueError, match=f"has 365 samples, and the sizes of the split add up to {sum(sizes.values())}"
        ):
            split_profiles(cohort, SplitOptions(strategy="random", sizes=sizes))


def test_a_surplus_is_left_out_only_on_demand_and_said(cohort, caplog):
    sizes = {"train": 200, "validation": 60, "test": 100}
    with pytest.raises(ValueError, match="add up to 360"):
        split_profiles(cohort, SplitOptions(strategy="random", sizes=sizes))
    splits = split_profiles(cohort, SplitOptions(strategy="random", sizes={**sizes, "surplus": "leave_out"}))
    assert {name: part.n_obs for name, part in splits.items()} == sizes
    assert len({sample for part in splits.values() for sample in part.obs_names}) == 360
    assert "5 samples are left out" in caplog.text
    with pytest.raises(ValueError, match="add up to 461"):
        split_profiles(cohort, SplitOptions(strategy="random", sizes={**sizes, "test": 201, "surplus": "leave_out"}))


def test_sizes_of_samples_and_folds_of_donors_exclude_each_other():
    with pytest.raises(ValidationError, match="set strategy to random, or sizes to null"):
        SplitOptions(sizes=SplitSizes(train=1, validation=1, test=1))


def test_a_tissue_with_one_donor_is_refused_by_name(cohort):
    lone = make_cohort({"lung": [f"d{i}" for i in range(30)], "spleen": ["d1"] * 20})
    with pytest.raises(ValueError, match="too few donors to split into 10 folds: spleen has 1"):
        split_profiles(lone, SplitOptions())
    # as samples they suffice
    assert split_profiles(lone, SplitOptions(strategy="random"))["test"].n_obs == 10


def test_a_tissue_absent_from_a_split_is_refused_by_name():
    scarce = make_cohort({"lung": [f"d{i}" for i in range(500)], "spleen": [f"e{i}" for i in range(10)]})
    messages = set()
    for seed in range(20):
        try:
            split_profiles(scarce, SplitOptions(strategy="random", seed=seed))
        except ValueError as error:
            messages.add(str(error).split(";")[0])
    assert "no sample of ['spleen'] fell into validation" in messages


def test_folds_have_to_leave_something_to_train_on():
    with pytest.raises(ValidationError, match="leave nothing of n_folds=3"):
        SplitOptions(n_folds=3, test_folds=2, validation_folds=1)


class TestTwins:
    @pytest.fixture
    def twins(self):
        """Forty donors, of whom every third has the profile of the one before, but for a little noise."""
        rng = np.random.default_rng(0)
        values = rng.gamma(2, 3, (120, 900)) + rng.gamma(2, 2, 900)
        cohort = make_cohort({"lung": [f"d{i}" for i in range(120)]})
        values[1::3] = values[::3] + rng.normal(0, 0.01, (40, 900))
        return make_profiles(values, cohort.obs, pd.DataFrame(index=[f"g{i}" for i in range(900)]), "log2(TPM + 1)")

    def test_one_profile_under_two_donors_is_found_and_kept_on_one_side(self, twins, caplog):
        pairs = find_twins(twins)
        assert pairs == [(f"s{i}", f"s{i + 1}") for i in range(0, 120, 3)]
        part = assign_splits(twins.obs, SplitOptions(n_folds=4, test_folds=1), pairs).set_index("sample")["split"]
        assert all(part[first] == part[second] for first, second in pairs)
        assert "40 pairs of samples of different donors have the same profile (r > 0.999)" in caplog.text
        apart = assign_splits(twins.obs, SplitOptions(n_folds=4, test_folds=1)).set_index("sample")["split"]
        assert not all(apart[first] == apart[second] for first, second in pairs)

    def test_a_chain_of_twins_is_one_person_and_one_donors_samples_are_no_twins(self, twins):
        options = SplitOptions(n_folds=4, test_folds=1)
        chain = [(f"s{i}", f"s{i + 1}") for i in range(20)]
        part = assign_splits(twins.obs, options, chain).set_index("sample")["split"]
        assert part[[f"s{i}" for i in range(21)]].nunique() == 1
        twins.obs["donor"] = "one"
        assert find_twins(twins) == []


def test_a_table_made_for_another_cohort_is_refused(cohort):
    table = assign_splits(cohort.obs, SplitOptions())
    with pytest.raises(ValueError, match=r"names 1 samples that the cohort lacks, for instance 's7'"):
        take_splits(cohort[[name for name in cohort.obs_names if name != "s7"]], table)


def test_the_summary_counts_samples_and_donors():
    rows = [
        *[("lung", donor, "train") for donor in "aab"],
        ("liver", "a", "train"),
        ("lung", "c", "test"),
        *[("liver", donor, "test") for donor in "cd"],
    ]
    table = pd.DataFrame(rows, columns=["tissue", "donor", "split"]).rename_axis("sample").reset_index()
    assert summarise_splits(table).to_numpy().tolist() == [
        ["all", "train", 4, 2],
        ["all", "test", 3, 2],
        ["liver", "train", 1, 1],
        ["liver", "test", 2, 2],
        ["lung", "train", 3, 2],
        ["lung", "test", 1, 1],
    ]
