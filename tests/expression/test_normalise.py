"""Read counts at one depth: edgeR's and DESeq2's factors, and what held-out samples may not tell."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.expression.normalise import (
    log2_of_counts,
    median_of_ratios,
    scale_by_train,
    trimmed_mean_of_m,
)
from transcriptome_diffusion.expression.profiles import make_profiles

#: four samples of twelve genes, and their factors by rnanorm 2.2 (TMM, validated against edgeR) and pydeseq2 0.5
TOY = np.array(
    [
        [49, 14, 29, 11, 1, 7, 13, 1, 1, 14, 21, 19],
        [88, 30, 40, 20, 1, 20, 28, 4, 2, 38, 41, 53],
        [18, 4, 12, 7, 0, 5, 5, 0, 0, 15, 10, 16],
        [67, 24, 39, 18, 0, 9, 15, 4, 4, 33, 39, 43],
    ],
    dtype=np.float32,
)
TMM = [1.0079660103607748, 0.9480740656894009, 1.0342614875518834, 1.011769288196007]
SIZE_FACTORS = [0.8723732800972739, 1.8370517575724825, 0.44208449712168923, 1.4367746156454897]


def profiles(counts, unit="counts", **var):
    counts = np.asarray(counts, dtype=np.float32)
    obs = pd.DataFrame({"tissue": "lung"}, index=[f"s{i}" for i in range(len(counts))])
    return make_profiles(
        counts, obs, pd.DataFrame(var, index=[f"g{i}" for i in range(counts.shape[1])]), unit, missing=True
    )


def test_counts_per_million_are_those_of_the_library_and_the_counts_stay():
    cohort = log2_of_counts(profiles(TOY), "cpm")
    np.testing.assert_allclose(np.exp2(cohort.X) - 1, 1e6 * TOY / TOY.sum(axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_array_equal(cohort.layers["counts"], TOY)
    assert cohort.uns["unit"] == "log2(CPM + 1)"
    assert cohort.obs["library_size"].tolist() == TOY.sum(axis=1).tolist()


def test_transcripts_per_million_divide_by_the_length_of_the_gene_first():
    lengths = np.arange(500, 6500, 500)
    cohort = log2_of_counts(profiles(TOY, length=lengths), "tpm")
    rates = TOY / lengths
    np.testing.assert_allclose(np.exp2(cohort.X) - 1, 1e6 * rates / rates.sum(axis=1, keepdims=True), rtol=1e-5)
    assert cohort.uns["unit"] == "log2(TPM + 1)"
    with pytest.raises(ValueError, match=r"`normalise: tpm` needs the genes' lengths.*gene_columns: \{length"):
        log2_of_counts(profiles(TOY), "tpm")
    with pytest.raises(ValueError, match="1 of 12 genes have no length above 0, the first is 'g3'"):
        log2_of_counts(profiles(TOY, length=np.where(lengths == 2000, np.nan, lengths)), "tpm")


def test_the_trimmed_mean_of_m_values_is_that_of_edger():
    factor = trimmed_mean_of_m(TOY)
    np.testing.assert_allclose([factor(sample) for sample in TOY], TMM, rtol=1e-9)


def test_by_hand_one_gene_that_fills_a_library_changes_its_factor_and_nothing_else():
    """Ten genes alike, an eleventh that takes half of the second library: every other gene has half its share."""
    even = np.full(11, 100.0)
    odd = np.r_[np.full(10, 100.0), 1000.0]
    factor = trimmed_mean_of_m(np.array([even, even, odd]))
    shares = np.array([100 / 1100, 100 / 1100, 100 / 2000])
    expected = shares / np.exp(np.log(shares).mean())
    np.testing.assert_allclose([factor(s) for s in (even, even, odd)], expected, rtol=1e-6)


def test_the_median_of_ratios_is_that_of_deseq2():
    factor = median_of_ratios(TOY)
    np.testing.assert_allclose([factor(sample) for sample in TOY], SIZE_FACTORS, rtol=1e-6)
    # a sample of thrice the counts of another has thrice its factor
    assert factor(3 * TOY[0]) == pytest.approx(3 * factor(TOY[0]))
    with pytest.raises(ValueError, match=r"no gene has reads in each of the 2 training samples.*tmm or cpm"):
        median_of_ratios(np.array([[0, 3], [3, 0]]))


@pytest.mark.parametrize("how", ["tmm", "size_factors"])
class TestScaleByTrain:
    def splits(self, test=TOY):
        cohort = log2_of_counts(profiles(TOY), "cpm")
        return {"train": cohort, "test": log2_of_counts(profiles(test), "cpm")}

    def test_factors_make_one_unit_of_all_libraries(self, how):
        train = scale_by_train(self.splits(), how)["train"]
        factors = {"tmm": TMM, "size_factors": SIZE_FACTORS}[how]
        np.testing.assert_allclose(train.obs["size_factor"], factors, rtol=1e-6)
        depth = TOY.sum(axis=1) * factors if how == "tmm" else TOY.sum(axis=1).mean() * np.array(factors)
        np.testing.assert_allclose(np.exp2(train.X) - 1, 1e6 * TOY / depth[:, None], rtol=1e-5)
        assert train.uns["unit"] == "log2(CPM + 1)"
        np.testing.assert_array_equal(train.layers["counts"], TOY)

    def test_held_out_samples_change_nothing_for_others(self, how):
        before = scale_by_train(self.splits(), how)
        after = scale_by_train(self.splits(np.vstack([TOY[:1], 1000 * TOY[1:]])), how)
        np.testing.assert_array_equal(before["train"].X, after["train"].X)
        np.testing.assert_array_equal(before["test"].X[0], after["test"].X[0])

    def test_missing_counts_are_refused(self, how):
        splits = self.splits()
        splits["test"].layers["counts"][0, 0] = np.nan
        with pytest.raises(ValueError, match=rf"`normalise: {how}` needs all counts.*drop or zero"):
            scale_by_train(splits, how)


def test_negative_counts_and_empty_libraries_are_refused():
    with pytest.raises(ValueError, match="must not be negative, found -1"):
        log2_of_counts(profiles([[-1, 3]]), "cpm")
    with pytest.raises(ValueError, match="1 samples have no read: s1"):
        log2_of_counts(profiles([[1, 3], [0, 0]]), "cpm")
