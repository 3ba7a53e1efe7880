"""ARCHS4's HDF5 file: its layout, its classes, and that series stay whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from transcriptome_diffusion.cohorts import archs4, progress
from transcriptome_diffusion.cohorts.archs4 import classes_by_words, group_series
from transcriptome_diffusion.cohorts.options import ARCHS4Options
from transcriptome_diffusion.cohorts.readers import read_cohort
from transcriptome_diffusion.expression.landmarks import load_panel

N = 30
LANDMARKS = load_panel().head(4)
#: three genes that are no landmarks between the landmarks
ENSEMBL = [
    "ENSG99999999997",
    *LANDMARKS["ensembl_id"][:2],
    "ENSG99999999998",
    *LANDMARKS["ensembl_id"][2:],
    "ENSG99999999999",
]
SYMBOLS = ["NONE0", *LANDMARKS["symbol"][:2], "NONE1", *LANDMARKS["symbol"][2:], "NONE2"]
COUNTS = np.random.default_rng(0).poisson(50, size=(len(ENSEMBL), N)).astype(np.uint32)
SOURCES = np.array(["Lung tissue", "liver biopsy", "whole blood"])[np.arange(N) % 3]
SERIES = np.array([f"GSE{i // 5}" for i in range(N)])
WORDS = {"lung": ["lung"], "liver": ["liver", "hepatocyte"]}


def write(path: Path, **changed: Any) -> Path:
    """A file in the layout of version 2.5; ``changed`` replaces columns, by their path, or removes them (None)."""
    content: dict[str, Any] = {
        "data/expression": COUNTS,
        "meta/genes/ensembl_gene": ENSEMBL,
        "meta/genes/symbol": SYMBOLS,
        "meta/samples/geo_accession": [f"GSM{i}" for i in range(N)],
        "meta/samples/series_id": SERIES,
        "meta/samples/source_name_ch1": SOURCES,
        "meta/samples/title": [f"sample {i}" for i in range(N)],
        "meta/samples/characteristics_ch1": ["age: 40"] * N,
        "meta/samples/singlecellprobability": np.zeros(N, dtype=np.float32),
    } | changed
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            if values is None:
                continue
            values = np.asarray(values)
            if values.dtype.kind == "U":
                file.create_dataset(name, data=values.astype(object), dtype=h5py.string_dtype())
            elif name == "data/expression":
                file.create_dataset(
                    name, data=values, chunks=(len(values), min(4, values.shape[1])), compression="gzip"
                )
            else:
                file[name] = values
    return path


def read(path: Path, **options: Any) -> Any:
    return read_cohort("archs4", path, {"words": WORDS} | options)


def test_counts_of_the_chosen_samples_come_with_series_and_classes(tmp_path: Path) -> None:
    cohort = read(write(tmp_path / "human.h5"))
    chosen = np.flatnonzero(np.arange(N) % 3 < 2)
    assert list(cohort.obs_names) == [f"GSM{i}" for i in chosen]
    np.testing.assert_array_equal(cohort.X, COUNTS[:, chosen].T)
    assert cohort.uns["unit"] == "counts"
    assert cohort.obs["tissue"].tolist() == ["lung" if i % 3 == 0 else "liver" for i in chosen]
    assert cohort.obs["donor"].tolist() == SERIES[chosen].tolist()
    np.testing.assert_array_equal(cohort.obs["library_size"], COUNTS[:, chosen].sum(0))
    assert cohort.var["symbol"].tolist() == SYMBOLS
    assert cohort.var["ensembl_id"].tolist() == ENSEMBL


def test_landmarks_are_cpm_of_the_whole_library(tmp_path: Path) -> None:
    cohort = read(write(tmp_path / "human.h5"), genes="landmarks")
    chosen = np.flatnonzero(np.arange(N) % 3 < 2)
    assert cohort.var["symbol"].tolist() == LANDMARKS["symbol"].tolist()
    assert cohort.uns["unit"] == "CPM"
    rows = [SYMBOLS.index(symbol) for symbol in LANDMARKS["symbol"]]
    expected = COUNTS[rows][:, chosen] / COUNTS[:, chosen].sum(0) * 1e6
    np.testing.assert_allclose(cohort.X, expected.T, rtol=1e-5)


@pytest.mark.parametrize("block", [1, 3, 8, 100])
def test_the_size_of_a_block_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, block: int
) -> None:
    path = write(tmp_path / "human.h5")
    whole = read(path)
    monkeypatch.setattr(archs4, "BLOCK_VALUES", block * len(ENSEMBL))
    monkeypatch.setattr(progress, "LOG_EVERY", -1)
    with caplog.at_level("INFO"):
        np.testing.assert_array_equal(read(path).X, whole.X)
    assert "human.h5: 97 % of 0.00 GB read" in caplog.messages


def test_a_table_of_the_users_names_classes_and_covariates(tmp_path: Path) -> None:
    path = write(tmp_path / "human.h5")
    table = pd.DataFrame({"sample": ["GSM7", "GSM2", "GSM9"], "tissue": ["a", "b", ""], "age": [1, 2, 3]})
    table.to_csv(tmp_path / "classes.csv", index=False)
    cohort = read(path, words={}, classes="classes.csv")
    assert cohort.obs[["tissue", "age"]].to_dict("index") == {
        "GSM2": {"tissue": "b", "age": "2"},
        "GSM7": {"tissue": "a", "age": "1"},
    }
    np.testing.assert_array_equal(cohort.X, COUNTS[:, [2, 7]].T)


def test_probable_single_cells_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    probability = np.zeros(N, dtype=np.float32)
    probability[[0, 2]] = 0.9  # sample 2 has no class
    with caplog.at_level("INFO"):
        cohort = read(write(tmp_path / "human.h5", **{"meta/samples/singlecellprobability": probability}))
    assert "GSM0" not in cohort.obs_names
    assert "30 samples, of which 20 have a class, and 1 of these are left out as single cells" in caplog.text


def test_large_classes_are_thinned_by_a_seed(tmp_path: Path) -> None:
    path = write(tmp_path / "human.h5")
    first, same, other = (read(path, most_per_class=3, seed=seed).obs for seed in (0, 0, 1))
    assert first["tissue"].value_counts().to_dict() == {"lung": 3, "liver": 3}
    assert list(first.index) == list(same.index) != list(other.index)


def test_words_are_whole_and_a_sample_of_two_classes_has_none() -> None:
    text = np.array(["LUNG, left lobe", "lungfish", "liver and lung", "Hepatocyte-like", "bone"])
    found = classes_by_words([text, np.array([""] * 5)], WORDS)
    assert [None if pd.isna(name) else name for name in found] == ["lung", None, None, "liver", None]


def test_series_that_share_a_sample_have_one_name() -> None:
    found = group_series(np.array(["GSE1", "GSE2,GSE3", "GSE3", "GSE4, GSE2", "GSE5", "", ""]))
    assert found[1] == found[2] == found[3]
    # samples without a series are on their own
    assert len(set(found)) == 5


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"meta/samples/geo_accession": None}, "has no column geo_accession in meta/samples, found"),
        ({"meta/genes/symbol": None}, "has no column symbol or gene_symbol in meta/genes"),
        ({"data/expression": COUNTS.T}, "has 30 samples and a matrix data/expression of"),
        ({"data/expression": COUNTS[:3]}, "has 7 genes and a matrix of"),
        ({"meta/samples/source_name_ch1": ["bone"] * N}, "no sample of .* is left: 0 of 30 have a class"),
        (
            {"data/expression": COUNTS * (np.arange(N) != 3).astype(np.uint32)},
            "1 of the chosen samples .* have no read: GSM3",
        ),
        ({"meta/samples/geo_accession": ["GSM1"] * N}, "has the sample GSM1 twice"),
    ],
)
def test_other_layouts_are_named(tmp_path: Path, changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read(write(tmp_path / "human.h5", **changed))


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"the ARCHS4 file .* does not exist"):
        read(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("geo_accession\n")
    with pytest.raises(ValueError, match="is no HDF5 file"):
        read(tmp_path / "text.h5")


def test_classes_have_to_come_from_somewhere() -> None:
    with pytest.raises(ValidationError, match="name a table as `classes`, or the words"):
        ARCHS4Options()
    with pytest.raises(ValidationError, match="one of the two"):
        ARCHS4Options.model_validate({"words": WORDS, "classes": "table.csv"})


def test_genes_of_mouse_need_a_panel_of_mouse(tmp_path: Path) -> None:
    mouse = {
        "meta/genes/ensembl_gene": [f"ENSMUSG0000000000{i}" for i in range(len(ENSEMBL))],
        "meta/genes/symbol": [f"Gene{i}" for i in range(len(ENSEMBL))],
    }
    with pytest.raises(ValueError, match="Of mouse genes, set `genes: all`"):
        read(write(tmp_path / "mouse.h5", **mouse), genes="landmarks")
    assert read(tmp_path / "mouse.h5").n_vars == len(ENSEMBL)
