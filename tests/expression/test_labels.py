"""The class label: which column it is, which values are none, which spellings are one."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.expression.labels import label_samples, spelling_key
from transcriptome_diffusion.expression.options import IngestionOptions
from transcriptome_diffusion.expression.profiles import make_profiles


def cohort(**columns):
    size = len(next(iter(columns.values())))
    obs = pd.DataFrame({"donor": [f"d{i}" for i in range(size)], **columns}, index=[f"s{i}" for i in range(size)])
    return make_profiles(np.zeros((size, 2)), obs, pd.DataFrame(index=["a", "b"]), "FPKM")


def labels(*values, **options):
    return label_samples(cohort(tissue=list(values)), IngestionOptions(**options)).obs["tissue"].tolist()


SOURCES = ["blca"] * 3 + ["bladder"] * 2 + ["cervix"] * 2


def test_the_label_is_the_column_that_is_named_and_the_others_stay():
    both = cohort(tissue=["lung", "lung"], site=["left lung", "right lung"])
    found = label_samples(both, IngestionOptions(label="site"))
    assert found.obs["tissue"].tolist() == found.obs["site"].tolist() == ["left lung", "right lung"]
    assert both.obs["tissue"].tolist() == ["lung", "lung"]
    assert label_samples(both, IngestionOptions()).obs["tissue"].tolist() == ["lung", "lung"]


def test_values_become_tissues_and_those_without_one_are_dropped_and_named(caplog):
    raw = cohort(source=SOURCES)
    options = IngestionOptions(label="source", tissues={"blca": "bladder", "Bladder": "bladder", "other": "lung"})
    with caplog.at_level(logging.INFO):
        labelled = label_samples(raw, options)
    assert labelled.obs["tissue"].tolist() == ["bladder"] * 5
    assert "2 samples" in caplog.text
    assert "cervix (2)" in caplog.text
    assert "tissue" not in raw.obs


def test_a_column_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match=r"no column 'tissue' .*\['donor', 'source'\]\. Set `ingestion\.label` to one"):
        label_samples(cohort(source=SOURCES), IngestionOptions())


def test_a_map_that_names_no_value_of_the_column_is_refused():
    with pytest.raises(ValueError, match=r"none of .*'blca'.*\['luad'\]"):
        label_samples(cohort(source=SOURCES), IngestionOptions(label="source", tissues={"luad": "lung"}))


@pytest.mark.parametrize(
    "word", ["", " ", "NA", "n/a", "nan", "--", "'--", "[Not Available]", "not reported", "Unknown", "None", None]
)
def test_words_for_a_missing_label_are_no_class(word, caplog):
    assert labels("lung", word, "lung ") == ["lung", "lung"]
    assert "Left out 1 of 3 samples without a label in column 'tissue': s1" in caplog.text
    with pytest.raises(ValueError, match="no sample has a label in column 'tissue'"):
        labels(word, word)


@pytest.mark.parametrize("word", ["", "NA", "--", "not reported", np.nan])
def test_words_for_a_missing_donor_are_refused(word):
    raw = cohort(tissue=["lung", "lung", "NA"])
    raw.obs["donor"] = ["d0", word, "d2"]
    with pytest.raises(ValueError, match=r"1 samples have no donor, for instance 's1'; donors keep samples"):
        label_samples(raw, IngestionOptions())
    raw.obs["donor"] = ["d0", "d1", word]  # of a sample that has no label either
    assert label_samples(raw, IngestionOptions()).n_obs == 2


@pytest.mark.parametrize(
    ("variants", "joined"),
    [
        (["Liver", "liver", "liver"], "liver"),
        (["Adrenal gland", "Adrenal gland", "Adrenal Gland"], "Adrenal gland"),
        (["head_neck", "head-neck", "head neck", "head neck"], "head neck"),
        (["\u00d6sophagus", "O\u0308sophagus", "O\u0308sophagus"], "O\u0308sophagus"),
        (["Hôpital", "Hopital"], "Hopital"),
    ],
)
def test_one_word_in_two_spellings_is_one_class_and_said(variants, joined, caplog):
    assert labels(*variants, "lung") == [joined] * len(variants) + ["lung"]
    assert "differ in spelling alone" in caplog.text
    assert f"as {joined!r}" in caplog.text


def test_signs_and_numbers_tell_classes_apart(caplog):
    different = ["ER+", "ER-", "type 1.1", "type 11", "grade 1", "grade 2", "T-cell +", "T-cell -"]
    assert labels(*different) == different
    assert len({spelling_key(label) for label in different}) == len(different)
    assert not caplog.records


def test_other_names_of_a_class_are_those_that_are_given():
    aliases = {"hepar": "liver", "Thyroid gland": "Thyroid"}
    given = ["Hepar", "liver", "thyroid Gland", "Thyroid"]
    assert labels(*given, aliases=aliases) == ["liver", "liver", "Thyroid", "Thyroid"]
    assert labels("hepar", "x", aliases=aliases, tissues={"liver": "organ"}) == ["organ"]
