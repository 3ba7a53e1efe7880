"""The RNAseqDB reader, on small files in the published format and on the real cohort."""

from __future__ import annotations

import gzip
import logging
import os
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from sklearn.decomposition import PCA

from transcriptome_diffusion.cohorts.options import RNAseqDBOptions
from transcriptome_diffusion.cohorts.rnaseqdb import read_rnaseqdb
from transcriptome_diffusion.expression.filters import drop_small_tissues
from transcriptome_diffusion.expression.labels import label_samples
from transcriptome_diffusion.expression.landmarks import load_panel, match_panel, select_landmarks
from transcriptome_diffusion.expression.normalise import scale_by_train
from transcriptome_diffusion.expression.options import IngestionOptions, LandmarkOptions, SplitOptions
from transcriptome_diffusion.expression.splitting import assign_splits, take_splits
from transcriptome_diffusion.expression.unit_check import check_unit
from transcriptome_diffusion.expression.units import to_log2
from transcriptome_diffusion.pipelines.ingestion.nodes import prepare_cohort

GTEX, TCGA, TUMOUR = (f"bl-rsem-fpkm-{kind}.txt.gz" for kind in ("gtex", "tcga", "tcga-t"))
HEADER = "Hugo_Symbol\tEntrez_Gene_Id"
GTEX_IDS = "GTEX-S3XE-1226-SM-4AD4L\tGTEX-S32W-1126-SM-4AD5V"
TCGA_IDS = "TCGA-CU-A0YN-11A-11R-A10U-07\tTCGA-CU-A0YN-11B-11R-A10U-07"
GTEX_TEXT = f"{HEADER}\t{GTEX_IDS}\nTES\t26136\t2004.85\t4123.49\nAL354898.1\t0\t0.87\t0.68\nA1BG\t1\t0\t1e8\n"
TCGA_TEXT = f"{HEADER}\t{TCGA_IDS}\nA1BG\t1\t5\t6.7e9\nTES\t26136\t7\t8\nMYC\t4609\t9\t10\nAL354898.1\t0\t1\t2\n"

#: the project's mapping of the published files to tissues
TISSUES = {
    **dict.fromkeys(("bladder", "blca"), "bladder"),
    **dict.fromkeys(("kich", "kidney", "kirc", "kirp"), "kidney"),
    **dict.fromkeys(("luad", "lusc"), "lung"),
    **dict.fromkeys(("ucec", "ucs", "uterus"), "uterus"),
    "breast": "breast",
    "chol": "bile_duct",
    "coad": "colon",
    "hnsc": "head_neck",
    "lihc": "liver",
    "prad": "prostate",
    "read": "rectum",
    "salivary": "salivary",
    "stad": "stomach",
    "thca": "thyroid",
}


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = folder / {"gtex": GTEX, "tcga": TCGA, "tumour": TUMOUR}[name]
        path.write_bytes(gzip.compress(text.encode()))


def read(folder: Path, **options):
    return read_rnaseqdb(folder, RNAseqDBOptions(**options))


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, gtex=GTEX_TEXT, tcga=TCGA_TEXT)
    return tmp_path


def test_files_with_different_gene_lists_and_orders_are_joined_by_gene(folder):
    cohort = read(folder)
    assert list(cohort.var_names) == ["TES", "AL354898.1", "A1BG"]
    expected = [[2004.85, 0.87, 0], [4123.49, 0.68, 1e8], [7, 1, 5], [8, 2, 6.7e9]]
    np.testing.assert_array_equal(cohort.X, np.float32(expected))
    assert cohort.X.dtype == np.float32
    assert cohort.uns["unit"] == "FPKM"
    assert list(cohort.var["entrez_id"]) == ["26136", "", "1"]
    assert list(cohort.obs_names) == [*GTEX_IDS.split("\t"), *TCGA_IDS.split("\t")]
    assert list(cohort.obs["donor"]) == ["GTEX-S3XE", "GTEX-S32W", "TCGA-CU-A0YN", "TCGA-CU-A0YN"]
    assert list(cohort.obs["study"]) == ["GTEX", "GTEX", "TCGA", "TCGA"]
    assert set(cohort.obs["source"]) == {"bl"}


def test_the_file_name_tells_tumour_from_normal_and_kinds_can_be_left_out(folder):
    write(folder, tumour=TCGA_TEXT.replace("A0YN-11", "A0YN-01"))
    assert list(read(folder).obs["sample_type"]) == ["normal"] * 2 + ["tumor"] * 2 + ["normal"] * 2
    assert set(read(folder, kinds=["gtex"]).obs["study"]) == {"GTEX"}
    with pytest.raises(ValidationError, match="kinds"):
        read(folder, kinds=["gtx"])


def test_negative_values_are_refused_become_zero_or_stay(folder):
    write(folder, gtex=GTEX_TEXT.replace("0.87", "-0.5"))
    with pytest.raises(ValueError, match=r"number of at least 0 for gene AL354898\.1, .*found '-0\.5'"):
        read(folder)
    assert read(folder, negative="zero").X[0, 1] == 0
    kept = read(folder, negative="keep")
    assert kept.X[0, 1] == np.float32(-0.5)
    assert to_log2(kept).X[0, 1] == pytest.approx(-1)
    kept.X[0, 1] = -1.5
    with pytest.raises(ValueError, match=r"found -1\.5 in sample .*`keep` needs values above -1"):
        to_log2(kept)


def test_windows_line_ends_change_nothing(folder):
    before = read(folder)
    write(folder, gtex=GTEX_TEXT.replace("\n", "\r\n"))
    after = read(folder)
    assert list(after.obs_names) == list(before.obs_names)
    np.testing.assert_array_equal(after.X, before.X)


def test_files_with_other_names_are_left_alone_and_named(folder, caplog):
    (folder / "bl-rsem-count-gtex.txt.gz").write_bytes(b"not even gzip")
    with caplog.at_level(logging.WARNING):
        assert read(folder).n_obs == 4
    assert "bl-rsem-count-gtex.txt.gz" in caplog.text


def test_expected_counts_are_read_in_the_place_of_fpkm_and_normalised(folder, tmp_path):
    (tmp_path / "bl-rsem-count-gtex.txt.gz").write_bytes(gzip.compress(GTEX_TEXT.replace("\t1\t", "\t  1\t").encode()))
    cohort = read(tmp_path, values="counts")
    assert cohort.uns["unit"] == "counts"
    assert cohort.n_obs == 2
    assert list(cohort.var["entrez_id"]) == ["26136", "", "1"]
    prepared = prepare_cohort(cohort, IngestionOptions(min_samples_per_tissue=1, unit_check="warn"))
    assert prepared.uns["unit"] == "log2(CPM + 1)"
    np.testing.assert_array_equal(prepared.layers["counts"], cohort.X)
    (tmp_path / "bl-rsem-count-gtex.txt.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"no RNAseqDB file .*<cohort>-rsem-count-"):
        read(tmp_path, values="counts")


#: the others, tmm, size_factors and fpkm, on request: docs/which_file.md shows what they give
NORMALISATIONS = os.environ.get("NORMALISATIONS", "cpm").split(",")
#: a third of the cohort, five tissues of both studies: of 301 samples r has a standard error of .06, and raw counts .75
SOME = ("kidney", "kirc", "kirp", "bladder", "blca", "uterus", "ucec", "lihc", "prad")


@pytest.fixture(scope="module")
def real_counts(rnaseqdb_folder, tmp_path_factory):
    """Counts of the real cohort in log2(CPM + 1): of some tissues, or of all where more was asked for."""
    folder = rnaseqdb_folder.parent / "expected_count"
    if not folder.is_dir():
        pytest.skip("SKIPPED FOR LACK OF DATA: expected_count of RNAseqDB was not found beside the FPKM")
    if NORMALISATIONS == ["cpm"]:
        some = tmp_path_factory.mktemp("some")
        for file in (file for name in SOME for file in folder.glob(f"{name}-rsem-count-*.txt.gz")):
            (some / file.name).symlink_to(file)
        folder = some
    return prepare_cohort(read(folder, values="counts"), IngestionOptions(label="source", tissues=TISSUES))


def depth_in_first_component(values, size, groups):
    """|r| of the first principal component with the logarithm of library size, both less the means of groups."""
    values, size = (
        part - pd.DataFrame(part).groupby(groups).transform("mean").to_numpy() for part in (values, size[:, None])
    )
    first = PCA(1, svd_solver="full").fit_transform(values)
    return abs(np.corrcoef(first[:, 0], size[:, 0])[0, 1])


@pytest.mark.parametrize("how", NORMALISATIONS)
def test_the_depth_of_the_real_libraries_is_gone_from_normalised_counts(real_counts, rnaseqdb_folder, how):
    """Studies differ in depth and in all else (protocol, donors), so that depth is looked at within them."""
    counted = real_counts
    if how == "fpkm":
        fpkm = prepare_cohort(read(rnaseqdb_folder), IngestionOptions(label="source", tissues=TISSUES))
        normalised = fpkm[counted.obs_names]
    elif how == "cpm":
        normalised = counted
    else:
        parts = scale_by_train(take_splits(counted, assign_splits(counted.obs, SplitOptions())), how)
        normalised = ad.concat(parts, merge="same")[counted.obs_names]
    tissue, study = (counted.obs[column].astype(str) for column in ("tissue", "study"))
    size = np.log(counted.obs["library_size"].to_numpy())
    found = {}
    for name, values in {"raw": np.log2(counted.layers["counts"] + 1), how: normalised.X}.items():
        var = normalised.var if name == how else counted.var
        places = var.index.get_indexer(match_panel(var, load_panel()).query("found")["gene"])
        for groups in (tissue, tissue + study):
            found[name, groups is tissue] = depth_in_first_component(values[:, places], size, groups.to_numpy())
    for (name, pooled), r in found.items():
        logging.warning("%s, within tissues%s: |r| = %.2f", name, "" if pooled else " and studies", r)
    assert found["raw", False] > 0.6
    assert found[how, False] < 0.2


def test_ambiguous_symbols_are_dropped_and_named(folder, caplog):
    write(folder, gtex=GTEX_TEXT.replace("A1BG\t1\t", "A1BG\t2\t") + "TES\t5\t1\t1\n")
    with caplog.at_level(logging.WARNING):
        assert list(read(folder).var_names) == ["AL354898.1"]
    assert "whose Entrez id differs between files: A1BG" in caplog.text
    assert f"that repeat in {GTEX}: TES" in caplog.text


def test_a_missing_and_an_empty_folder_are_told_apart_and_say_where_the_data_are(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"does not exist.*rsem-fpkm.*github.com/mskcc/RNAseqDB"):
        read(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no RNAseqDB file .*nothing else.*rsem-fpkm.*github.com"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(GTEX_TEXT.replace(HEADER, "gene\tid"), "lacks the id columns.*'gene', 'id'", id="id columns"),
        pytest.param(HEADER + "\nTES\t26136\n", "has no sample: its header is", id="no samples"),
        pytest.param(GTEX_TEXT.splitlines()[0] + "\n", "but no gene", id="no genes"),
        pytest.param("", "is empty", id="empty"),
        pytest.param(GTEX_TEXT.replace("\t0.68", ""), "line 3: 3 cells, but the header has 4", id="short row"),
        pytest.param(GTEX_TEXT.replace("0.68", "0.68\t3"), "line 3: 5 cells", id="long row"),
        pytest.param(GTEX_TEXT.replace("\nAL", "\n\nAL"), "line 3: empty, but genes follow", id="blank row"),
        pytest.param(GTEX_TEXT.replace("A1BG\t1\t", "\t1\t"), "line 4: a gene without a name", id="no symbol"),
        pytest.param(
            GTEX_TEXT.replace("S32W-1126", "S3XE-1226").replace("4AD5V", "4AD4L"),
            "samples have several columns: GTEX-S3XE",
            id="twice",
        ),
        pytest.param(GTEX_TEXT.replace("GTEX-S32W", "S32W"), "'S32W-1126-SM-4AD5V' is not a GTEX", id="barcode"),
        *(
            pytest.param(
                GTEX_TEXT.replace("0.68", cell),
                f"line 3: .*gene AL354898.1, sample GTEX-S32W-1126-SM-4AD5V, found '{cell}'",
                id=f"value {cell!r}",
            )
            for cell in ("high", "NA", "", "-0.1", "NaN", "inf", "1e39")
        ),
    ],
)
def test_a_broken_file_is_refused_by_name_and_place(folder, text, message):
    write(folder, gtex=text)
    with pytest.raises(ValueError, match=f"(?s){GTEX}.*{message}|{message}.*{GTEX}"):
        read(folder)


def test_truncated_and_corrupt_gzip_files_are_refused(folder):
    whole = gzip.compress(GTEX_TEXT.encode())
    (folder / GTEX).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"{GTEX} is truncated"):
        read(folder)
    for broken in (whole[:12] + bytes([whole[12] ^ 255]) + whole[13:], whole[:-8] + b"\0" * 8):
        (folder / GTEX).write_bytes(broken)
        with pytest.raises(ValueError, match=f"{GTEX} is not a sound gzip file"):
            read(folder)


def test_a_sample_in_two_files_is_refused_naming_both(folder):
    write(folder, tumour=TCGA_TEXT)
    with pytest.raises(ValueError, match=f"TCGA-CU-A0YN-11A-11R-A10U-07' comes 2 times, in .*{TUMOUR}.*{TCGA}"):
        read(folder)


def test_files_without_a_common_gene_are_refused(folder):
    write(folder, gtex=f"{HEADER}\t{GTEX_IDS}\nENSG1\t0\t1\t2\n")
    with pytest.raises(ValueError, match="share no gene"):
        read(folder)


def test_the_real_cohort_is_read_labelled_matched_and_split(rnaseqdb_folder, caplog):
    with caplog.at_level(logging.INFO):
        cohort = read(rnaseqdb_folder)
        assert cohort.shape == (876, 18154)
        assert cohort.obs["donor"].nunique() == 779
        assert cohort.X.max() > 1e9
        check_unit(cohort)

        labelled = to_log2(
            drop_small_tissues(label_samples(cohort, IngestionOptions(label="source", tissues=TISSUES)), 20)
        )
    assert labelled.n_obs == 859
    assert labelled.obs["tissue"].nunique() == 14
    assert "cervix (10), esca (7)" in caplog.text
    assert labelled.X.max() < 33

    panel = match_panel(labelled.var, load_panel())
    assert select_landmarks(labelled, panel, LandmarkOptions()).n_vars == 978
    # the source still has the former symbol, and no Entrez id
    assert panel.loc[panel["matched_by"] == "alias", ["symbol", "gene"]].to_numpy().tolist() == [["JADE2", "PHF15"]]
    # the source gives CALM3 the Entrez id of CALM1, and HDGFRP3 none
    assert sorted(panel.loc[panel["matched_by"] == "symbol", "gene"]) == ["CALM3", "HDGFRP3"]

    splits = take_splits(labelled, assign_splits(labelled.obs, SplitOptions()))
    donors = [set(part.obs["donor"]) for part in splits.values()]
    assert sum(map(len, donors)) == len(set.union(*donors))
    assert {name: round(part.n_obs / 859, 1) for name, part in splits.items()} == {
        "train": 0.7,
        "validation": 0.1,
        "test": 0.2,
    }
    assert (splits["test"].obs["tissue"].value_counts() >= 4).all()
