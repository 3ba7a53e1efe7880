"""What tells the unit of values: each wrong declaration is refused or said, each right one passes in silence."""

from __future__ import annotations

import logging
import re

import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.expression.unit_check import check_unit
from transcriptome_diffusion.expression.units import undo_log

SAMPLES, GENES = 12, 3000


def shares(seed=0, genes=GENES):
    """TPM of ``SAMPLES`` samples; a fifth of the genes is not expressed."""
    rng = np.random.default_rng(seed)
    values = np.exp(rng.normal(0, 2, genes) + rng.normal(0, 0.5, (SAMPLES, genes)))
    values[:, rng.random(genes) < 0.2] = 0
    return 1e6 * values / values.sum(axis=1, keepdims=True)


def counts(seed=0, genes=GENES):
    """Reads of libraries that differ sixfold."""
    rng = np.random.default_rng(seed)
    return rng.poisson(shares(seed, genes) * np.linspace(1, 6, SAMPLES)[:, None])


def check(values, unit, how="refuse"):
    """As a reader hands values on."""
    linear = np.array(values, dtype=np.float32)
    obs = pd.DataFrame(index=[f"s{i}" for i in range(len(linear))])
    profiles = make_profiles(
        linear, obs, pd.DataFrame(index=[f"g{i}" for i in range(linear.shape[1])]), undo_log(linear, unit), missing=True
    )
    profiles.X = linear
    profiles.uns["declared_unit"] = unit
    check_unit(profiles, how)


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        (shares(), "TPM"),
        (shares().round(2), "CPM"),
        (shares()[:, :500], "TPM"),  # some genes of the transcriptome
        (shares() * 0.8, "FPKM"),
        (shares() / 100, "CP10K"),
        (np.log2(shares() + 1), "log2(TPM + 1)"),
        (np.log2(shares() + 0.001).round(4), "log2(TPM + 0.001)"),
        (np.log(shares() + 1), "ln(CPM + 1)"),
        (np.log10(shares() + 1), "log10(TPM + 1)"),
        (np.log2(shares() / 100 + 1), "log2(CP10K + 1)"),
        (counts(), "counts"),
        (counts() + 0.37 * (np.arange(GENES) % 3 == 0), "expected_count"),  # RSEM's are no whole numbers
        (np.log2(counts() + 1), "log2(counts + 1)"),
        (np.where(np.arange(GENES) == 5, np.nan, shares()), "TPM"),
    ],
)
def test_what_is_declared_rightly_passes_in_silence(values, unit, caplog):
    with caplog.at_level(logging.WARNING):
        check(values, unit)
    assert not caplog.records


@pytest.mark.parametrize(
    ("values", "unit", "message"),
    [
        (counts(), "TPM", r"declared as TPM, .*whole numbers, as counts are.*declare `unit: counts`"),
        (counts() // 20, "TPM", r"whole numbers and the sums differ by a factor of [5-7].*`unit: counts`"),
        (counts() * 1.01, "CPM", r"too large for it.*`unit: counts` or `unit: FPKM`"),
        (np.log2(counts() + 1), "log2(TPM + 1)", r"declared as log2\(TPM \+ 1\).*`unit: counts`"),
        (shares() / 100, "TPM", r"It fits CP10K: declare `unit: CP10K`, and log2\(CP10K \+ 1\) in globals"),
        (np.log(shares() / 100 + 1), "ln(TPM + 1)", r"It fits ln\(CP10K \+ 1\)"),
        (shares() / 2, "TPM", "All samples have nearly the same sum, so they were scaled to another one"),
        (np.log(shares() + 1), "log2(TPM + 1)", r"As ln\(TPM \+ 1\) they would sum to 1,000,000"),
        (np.log2(shares() + 1), "ln(TPM + 1)", r"As log2\(TPM \+ 1\) they would sum to 1,000,000"),
        (np.log10(shares() + 1), "log2(CPM + 1)", r"As log10\(CPM \+ 1\) they would sum to 1,000,000"),
        (np.log2(shares() + 1), "log2(TPM)", r"\d+ values are exactly 0.*would be minus infinity.*log2\(TPM \+ 1\)"),
        (np.log2(shares() + 1), "log2(TPM + 0.001)", r"would be -9\.966\. It fits log2\(TPM \+ 1\)"),
        (np.log2(shares() + 1), "log2(FPKM)", r"It fits log2\(FPKM \+ 1\)"),
        (counts(), "expression", "sequencing depth would be learnt as biology.*`unit: counts`"),
        (counts(), "fpkm", r"declared as FPKM, yet all are whole numbers, and libraries differ by a factor of [5-7]"),
        (np.log(shares() / 100 + 1), "log2(TPM + 1)", r"As ln\(CP10K \+ 1\) they would sum to 10,000"),
        (
            np.where(np.arange(SAMPLES)[:, None] == 3, np.log(shares() + 1), np.log2(shares() + 1)),
            "log2(TPM + 1)",
            "1 of 12 samples do not sum to 1,000,000 as the others do: s3",
        ),
        (np.log2(shares(0, 12_000) * 3e-3 + 20), "log2(TPM + 1)", "It fits arrays, VST or rlog, which have no zero"),
        (shares() > 10, "counts", "none exceeds 1: they are marks of presence"),
        (shares(), "counts", "yet are fractions, and a sample's values sum to 1e.06.*`unit: CPM` or `unit: TPM`"),
        (shares() / 100, "counts", "normalised already. It fits `unit: CP10K`"),
        (np.log2(counts() + 1), "counts", r"yet are fractions up to .*`unit: log2\(counts \+ 1\)`"),
        (shares() * (np.arange(SAMPLES) != 4)[:, None], "TPM", "1 of 12 samples have no value above zero: s4"),
        (
            np.where(np.arange(SAMPLES)[:, None] == 3, np.log2(shares() + 1), shares()),
            "FPKM",
            r"1 of 12 samples look like logarithms among linear values: s3; 's3' sums to",
        ),
        (
            shares() * np.where(np.arange(SAMPLES) == 7, 1e-4, 1)[:, None],
            "FPKM",
            "1 of 12 samples .*: s7",
        ),
    ],
)
def test_each_wrong_declaration_is_refused_with_what_it_fits_or_only_said(values, unit, message, caplog):
    with pytest.raises(ValueError, match=message) as caught:
        check(values, unit)
    assert len(str(caught.value)) < 750
    assert "`ingestion.unit_check: warn`" in str(caught.value)
    with caplog.at_level(logging.WARNING):
        check(values, unit, "warn")
    assert caplog.records


ALL = 12_000


@pytest.mark.parametrize(
    ("values", "unit", "message"),
    [
        (
            shares(0, ALL) * np.linspace(0.1, 0.3, SAMPLES)[:, None],
            "TPM",
            "were genes removed, or is this another",
        ),
        (counts(), "RSEM", r"declared as RSEM, yet all are whole numbers, and libraries differ by a factor of [5-7]"),
        (counts(0, ALL) * 1.01, "FPKM", r"The 90th percentiles of samples differ by a factor of [5-7].*`unit: counts`"),
        (
            np.repeat(counts()[:1], SAMPLES, axis=0),
            "counts",
            "all samples have nearly the same sum.*may be normalised already",
        ),
        (
            counts() / np.linspace(0.7, 3, SAMPLES)[:, None],
            "counts",
            "divided by a size factor .*`unit: normalised",
        ),
        (counts()[:, :600] * 0.999, "FPKM", r"The 90th percentiles of samples differ by a factor of [5-7]"),
        (np.log2(shares() + 2), "log2(TPM)", "a share of only 0 of them is of less than 1 TPM"),
    ],
)
def test_what_may_be_right_is_said_and_passes(values, unit, message, caplog):
    with caplog.at_level(logging.WARNING):
        check(values, unit)
    assert len(caplog.records) == 1
    assert re.search(message, caplog.text)


def test_an_empty_cohort_has_no_unit_to_check():
    check_unit(make_profiles(np.empty((0, 3)), pd.DataFrame(), pd.DataFrame(index=list("abc")), "TPM"))


@pytest.mark.parametrize("name", ["counts", "Counts", "raw counts", "read_counts", "expected_count", "reads"])
def test_read_counts_have_one_name(name):
    assert undo_log(np.ones((1, 1), dtype=np.float32), name) == "counts"


def test_negative_values_become_zero_on_demand():
    values = np.array([[-0.5, 0, 1]], dtype=np.float32)
    assert undo_log(values, "log2(TPM + 1)", "zero") == "TPM"
    assert values.tolist() == [[0, 0, 1]]
