"""A cohort of one's own: every format, either orientation, every kind of identifier."""

from __future__ import annotations

import gzip
import logging

import anndata as ad
import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse

from transcriptome_diffusion.cohorts.readers import read_cohort
from transcriptome_diffusion.expression.labels import label_samples
from transcriptome_diffusion.expression.landmarks import load_panel, match_panel
from transcriptome_diffusion.expression.options import IngestionOptions

SAMPLES = [f"S-{i}" for i in range(6)]
PANEL = load_panel().head(4)
VALUES = np.array([[0.5, 1000, 3, 4 + i] for i in range(6)], dtype=np.float32)  # samples x genes


@pytest.fixture
def matrix():
    """Genes in rows, Ensembl ids with versions."""
    genes = [f"{gene}.{version}" for version, gene in enumerate(PANEL["ensembl_id"], start=3)]
    return pd.DataFrame(VALUES.T, index=pd.Index(genes, name="gene_id"), columns=SAMPLES)


@pytest.fixture
def folder(tmp_path):
    table = pd.DataFrame(
        {
            "id": [*SAMPLES, "not measured"],
            "organ": ["liver", "liver", "lung, left", "lung, left", "lung, left", "", "lung, left"],
            "patient": ["p1", "p1", "p2", "p3", "p4", "p5", "p6"],
            "centre": "A",
            "sex": ["f", "f", "m", "m", "f", "m", "m"],
        }
    )
    table.to_csv(tmp_path / "samples.csv", index=False)
    return tmp_path


def label(cohort):
    """As the ingestion does it."""
    return label_samples(cohort, IngestionOptions())


def read(folder, name, **options):
    """The labelled cohort."""
    columns = {"sample": "id", "tissue": "organ", "donor": "patient"}
    settings = {"samples": "samples.csv", "columns": columns, "unit": "TPM"} | options
    return label(read_cohort("own", folder / name, settings))


def write(matrix, path):
    name = path.name
    if ".parquet" in name:
        pl.DataFrame(matrix.reset_index().to_dict("list")).write_parquet(path)
    elif ".gct" in name:
        table = matrix.rename_axis("Name")
        table.insert(0, "Description", [f"symbol{i}" for i in range(len(table))])
        text = f"#1.2\n{matrix.shape[0]}\t{matrix.shape[1]}\n" + table.to_csv(sep="\t")
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    else:
        matrix.to_csv(path, sep="," if ".csv" in name else "\t")


def test_the_ending_of_a_table_may_be_in_capitals(folder, matrix):
    write(matrix, folder / "m.tsv")
    (folder / "samples.csv").rename(folder / "SAMPLES.CSV")
    assert read(folder, "m.tsv", samples="SAMPLES.CSV").n_obs == 5


NAMES = ["m.tsv", "m.tsv.gz", "m.txt", "m.csv", "m.csv.gz", "m.parquet", "m.gct", "m.gct.gz"]


@pytest.mark.parametrize("name", NAMES)
def test_every_format_gives_the_same_cohort(folder, matrix, name):
    write(matrix, folder / name)
    cohort = read(folder, name)
    assert list(cohort.obs_names) == SAMPLES[:5]  # the sixth has no organ
    assert cohort.var["ensembl_id"].tolist() == PANEL["ensembl_id"].tolist()
    np.testing.assert_array_equal(cohort.X, VALUES[:5])
    assert cohort.obs["tissue"].tolist() == ["liver", "liver", "lung, left", "lung, left", "lung, left"]
    assert cohort.obs["donor"].tolist() == ["p1", "p1", "p2", "p3", "p4"]
    assert set(cohort.obs["study"]) == {"own"}
    assert cohort.uns["unit"] == "TPM"


@pytest.mark.parametrize("name", ["m.tsv", "m.csv.gz", "m.parquet"])
def test_genes_in_columns_are_recognised_by_the_sample_table(folder, matrix, name):
    write(matrix.T.rename_axis("sample"), folder / name)
    cohort = read(folder, name)
    np.testing.assert_array_equal(cohort.X, VALUES[:5])
    np.testing.assert_array_equal(cohort.X, read(folder, name, genes_in="columns").X)


def test_a_table_as_r_writes_it_is_read(folder, matrix):
    """write.csv quotes every name, write.table leaves the corner of the header out."""
    rows = [f'"{gene}",' + ",".join(map(str, row)) for gene, row in zip(matrix.index, matrix.to_numpy(), strict=True)]
    (folder / "m.csv").write_text("\n".join(['"",' + ",".join(f'"{s}"' for s in SAMPLES), *rows]) + "\n")
    np.testing.assert_array_equal(read(folder, "m.csv").X, VALUES[:5])
    matrix.to_csv(folder / "m.txt", sep="\t", index_label=False)
    np.testing.assert_array_equal(read(folder, "m.txt").X, VALUES[:5])


@pytest.mark.parametrize(("kind", "matched_by"), [("entrez_id", "entrez_id"), ("symbol", "symbol")])
def test_entrez_ids_and_symbols_find_the_panel_too_and_nothing_is_padded(folder, matrix, kind, matched_by):
    write(matrix.set_axis(pd.Index(PANEL[kind], name="gene")), folder / "m.tsv")
    cohort = read(folder, "m.tsv")
    found = match_panel(cohort.var, load_panel())
    assert found.loc[found["found"], "matched_by"].tolist() == [matched_by] * 4
    assert cohort.n_vars == 4


def test_a_second_column_of_symbols_is_read_beside_the_ids(folder, matrix):
    matrix.insert(0, "gene_name", PANEL["symbol"].to_list())
    write(matrix, folder / "m.tsv")
    var = read(folder, "m.tsv", id_columns=2).var
    assert var["symbol"].tolist() == PANEL["symbol"].tolist()
    assert var["ensembl_id"].tolist() == PANEL["ensembl_id"].tolist()
    write(matrix, folder / "m.parquet")
    assert read(folder, "m.parquet").var["symbol"].tolist() == PANEL["symbol"].tolist()


def test_a_gene_table_says_what_the_ids_do_not(folder, matrix):
    probes = [f"{i}_at" for i in range(4)]
    write(matrix.set_axis(pd.Index(probes, name="probe")), folder / "m.tsv")
    table = pd.DataFrame(
        {"probe": [*probes[:3], "x"], "name": [*PANEL["symbol"][:3], "x"], "ncbi": ["16", "23", "", "7"]}
    )
    table.to_csv(folder / "genes.tsv", sep="\t", index=False)
    settings = {
        "genes": str(folder / "genes.tsv"),
        "gene_columns": {"gene": "probe", "symbol": "name", "entrez_id": "ncbi"},
    }
    var = read(folder, "m.tsv", **settings).var
    assert list(var.index) == probes
    assert var["symbol"].tolist() == [*PANEL["symbol"][:3], "3_at"]
    assert var["entrez_id"].tolist() == ["16", "23", "", ""]
    with pytest.raises(ValueError, match=r"no column \['label'\]; its columns are \['probe', 'name', 'ncbi'\]"):
        read(folder, "m.tsv", genes=settings["genes"], gene_columns={"symbol": "label"})
    table.assign(probe="other").to_csv(folder / "genes.tsv", sep="\t", index=False)
    with pytest.raises(ValueError, match=r"matches no gene of .*begins with \['other'\].*'0_at'"):
        read(folder, "m.tsv", **settings)


def test_what_a_gene_table_leaves_open_does_not_keep_a_gene_from_the_panel(folder, matrix):
    """An Ensembl id counts where there is no Entrez id: NA and 0 are none."""
    write(matrix, folder / "m.tsv")
    table = pd.DataFrame({"gene": matrix.index, "symbol": ["AARS", "NA", "", "x"], "entrez_id": ["NA", "0", "25", ""]})
    table.to_csv(folder / "genes.tsv", sep="\t", index=False)
    var = read(folder, "m.tsv", genes="genes.tsv").var
    assert var["symbol"].tolist() == ["AARS", "", "", "x"]
    assert var["entrez_id"].tolist() == ["", "", "25", ""]
    found = match_panel(var, load_panel())
    assert set(found.loc[found["found"], "ensembl_id"]) == set(PANEL["ensembl_id"])


def test_a_gene_table_that_says_nothing_is_refused(folder, matrix):
    write(matrix, folder / "m.tsv")
    (folder / "genes.csv").write_text(f"gene~symbol\n{matrix.index[0]}~AARS\n")
    with pytest.raises(ValueError, match=r"has none of \['symbol', .* but \['gene~symbol'\]\. Name its columns"):
        read(folder, "m.tsv", genes="genes.csv")


def test_covariates_are_those_that_are_named(folder, matrix):
    write(matrix, folder / "m.tsv")
    columns = {"sample": "id", "tissue": "organ", "donor": "patient", "study": "centre", "gender": "sex"}
    obs = read(folder, "m.tsv", columns=columns).obs
    assert obs["gender"].tolist() == ["f", "f", "m", "m", "f"]
    assert set(obs["study"]) == {"A"}
    assert "sex" not in obs


def test_without_a_donor_every_sample_is_its_own_and_that_is_said(folder, matrix, caplog):
    write(matrix, folder / "m.tsv")
    with caplog.at_level(logging.WARNING):
        obs = read(folder, "m.tsv", columns={"sample": "id", "tissue": "organ"}).obs
    assert obs["donor"].tolist() == SAMPLES[:5]
    assert "every sample counts as a donor of its own" in caplog.text


def test_samples_without_a_row_or_a_tissue_are_left_out_by_name(folder, matrix, caplog):
    write(matrix.assign(extra=1.0), folder / "m.tsv")
    with caplog.at_level(logging.WARNING):
        assert read(folder, "m.tsv").n_obs == 5
    assert "Left out 1 of 7 samples without a row in the sample table: extra" in caplog.text
    assert "Left out 1 of 6 samples without a label in column 'tissue': S-5" in caplog.text


def test_what_r_writes_for_a_missing_label_is_no_class_and_no_donor(folder, matrix):
    write(matrix, folder / "m.tsv")
    text = (folder / "samples.csv").read_text()
    (folder / "samples.csv").write_text(text.replace("S-0,liver,", "S-0,NA,").replace("S-1,liver", "S-1,liver "))
    cohort = read(folder, "m.tsv")
    assert list(cohort.obs_names) == SAMPLES[1:5]
    assert cohort.obs["tissue"].tolist() == ["liver", "lung, left", "lung, left", "lung, left"]
    (folder / "samples.csv").write_text(text.replace("p3", "NA"))
    with pytest.raises(ValueError, match="1 samples have no donor, for instance 'S-3'"):
        read(folder, "m.tsv")


def test_an_h5ad_brings_its_own_tables_and_unit(tmp_path):
    obs = pd.DataFrame({"tissue": ["liver", "lung"], "donor": ["a", "b"], "age": [50, 60]}, index=["x", "y"])
    var = PANEL[["symbol"]].assign(entrez_id=PANEL["entrez_id"].astype(float)).set_axis(PANEL["ensembl_id"])
    cohort = ad.AnnData(sparse.csr_matrix(VALUES[:2]), obs=obs, var=var, uns={"unit": "CPM"})
    cohort.obs["tissue"] = cohort.obs["tissue"].astype("category")
    cohort.write_h5ad(tmp_path / "m.h5ad")
    found = read_cohort("own", tmp_path / "m.h5ad", {"columns": {"age": "age"}})
    np.testing.assert_array_equal(found.X, VALUES[:2])
    assert found.uns["unit"] == "CPM"
    assert found.obs["age"].tolist() == [50, 60]
    assert found.obs["tissue"].tolist() == ["liver", "lung"]
    assert found.var["entrez_id"].tolist() == PANEL["entrez_id"].tolist()
    assert found.var["symbol"].tolist() == PANEL["symbol"].tolist()


def test_an_h5ad_without_values_is_refused(tmp_path):
    obs = pd.DataFrame({"tissue": ["liver", "lung"]}, index=["x", "y"])
    ad.AnnData(obs=obs, var=pd.DataFrame(index=PANEL["ensembl_id"]), layers={"tpm": VALUES[:2]}).write_h5ad(
        tmp_path / "m.h5ad"
    )
    with pytest.raises(ValueError, match=r"has no values in X, only the layers \['tpm'\]\. Move one"):
        read_cohort("own", tmp_path / "m.h5ad", {})


class TestUnits:
    def test_a_declared_logarithm_is_undone(self, folder, matrix):
        write(np.log2(matrix + 1), folder / "m.tsv")
        cohort = read(folder, "m.tsv", unit="log2(FPKM + 1)")
        assert cohort.uns["unit"] == "FPKM"
        np.testing.assert_allclose(cohort.X, VALUES[:5], rtol=1e-5)

    def test_an_undeclared_unit_is_found_out_or_asked_for(self, folder, matrix):
        write(matrix, folder / "m.tsv")
        assert read(folder, "m.tsv", unit=None).uns["unit"] == "expression"
        toil = np.log2(matrix.where(matrix != 3, 0) + 0.001)
        write(toil, folder / "m.tsv")
        np.testing.assert_allclose(read(folder, "m.tsv", unit=None).X[:, 2], 0, atol=1e-6)
        write(np.log2(matrix + 1), folder / "m.tsv")
        with pytest.raises(ValueError, match=r"cannot be told.*Declare it"):
            read(folder, "m.tsv", unit=None)

    def test_empty_cells_stay_missing(self, folder, matrix):
        matrix.iloc[1, 2] = np.nan
        write(matrix, folder / "m.tsv")
        assert np.argwhere(np.isnan(read(folder, "m.tsv").X)).tolist() == [[2, 1]]


class TestWhatDoesNotBelongTogether:
    def test_a_sample_table_of_other_samples(self, folder, matrix):
        write(matrix.set_axis([f"T{i}" for i in range(6)], axis=1), folder / "m.tsv")
        with pytest.raises(ValueError, match=r"matches no sample of .*begins with \['S-0', 'S-1'\].*'T0'"):
            read(folder, "m.tsv")

    def test_names_that_r_has_rewritten(self, folder, matrix):
        write(matrix.set_axis([s.replace("-", ".") for s in SAMPLES], axis=1), folder / "m.tsv")
        with pytest.raises(ValueError, match=r"'S\.0' is what R makes of 'S-0': it turns dashes into dots"):
            read(folder, "m.tsv")

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ({"sample": "id", "tissue": "tissu"}, r"no column 'tissu' for tissue; its columns are \['organ'"),
            ({"sample": "id"}, r"no column 'tissue' for the class label.*columns: \{tissue: \.\.\.\}"),
            ({"sample": "sample_id", "tissue": "organ"}, r"no column \['sample_id'\]; its columns are \['id'"),
        ],
    )
    def test_columns_that_are_not_there(self, folder, matrix, columns, message):
        write(matrix, folder / "m.tsv")
        with pytest.raises(ValueError, match=message):
            read(folder, "m.tsv", columns=columns)

    def test_a_sample_that_comes_twice(self, folder, matrix):
        write(matrix.rename(columns={"S-1": "S-0"}), folder / "m.tsv")
        with pytest.raises(ValueError, match=r"1 samples come several times in the matrix .*: S-0"):
            read(folder, "m.tsv")
        write(matrix, folder / "m.tsv")
        text = (folder / "samples.csv").read_text()
        (folder / "samples.csv").write_text(text + "S-1,liver,p1,A,f\n")
        with pytest.raises(ValueError, match=r"1 samples come several times in the sample table .*: S-1"):
            read(folder, "m.tsv")

    def test_a_header_that_lost_a_cell_is_not_taken_for_rs(self, folder, matrix):
        """It would give every sample the values of its neighbour."""
        text = matrix.to_csv(sep="\t").replace("\tS-1", "")
        for name in ("gene_id", "cg"):
            (folder / "m.tsv").write_text(text.replace("gene_id", name))
            with pytest.raises(ValueError, match=r"7 cells, but the header has 6|begins with 'cg', which is no sample"):
                read(folder, "m.tsv")

    def test_a_column_name_that_comes_twice(self, folder, matrix):
        write(matrix, folder / "m.tsv")
        text = (folder / "samples.csv").read_text()
        (folder / "samples.csv").write_text(text.replace("centre", "organ"))
        with pytest.raises(ValueError, match=r"samples\.csv has several columns called 'organ'"):
            read(folder, "m.tsv")

    def test_ids_that_are_numbers_in_a_parquet_file(self, folder, matrix):
        write(matrix.set_axis(pd.Index([16, 23, 25, 30], name="entrez")), folder / "m.parquet")
        with pytest.raises(ValueError, match=r"has 0 columns that are not numbers.*\(as text, Entrez ids too\)"):
            read(folder, "m.parquet")

    def test_a_donor_without_a_name(self, folder, matrix):
        write(matrix, folder / "m.tsv")
        text = (folder / "samples.csv").read_text()
        (folder / "samples.csv").write_text(text.replace("p3", ""))
        with pytest.raises(ValueError, match="1 samples have no donor, for instance 'S-3'"):
            read(folder, "m.tsv")

    def test_a_parquet_file_with_too_many_texts(self, folder, matrix):
        matrix.insert(0, "a", "x")
        matrix.insert(0, "b", "x")
        write(matrix, folder / "m.parquet")
        with pytest.raises(ValueError, match=r"has 3 columns that are not numbers \(\['gene_id', 'b', 'a'\]\)"):
            read(folder, "m.parquet")

    @pytest.mark.parametrize("name", ["m.parquet", "m.h5ad"])
    def test_a_file_that_is_not_what_its_name_says(self, folder, name):
        (folder / name).write_text("gene\tS-0\n")
        with pytest.raises(ValueError, match="is not a sound"):
            read(folder, name)

    def test_files_that_are_not_there(self, folder, matrix):
        with pytest.raises(FileNotFoundError, match=r"matrix .*none\.tsv does not exist; set `filepath`"):
            read(folder, "none.tsv")
        write(matrix, folder / "m.tsv")
        with pytest.raises(FileNotFoundError, match=r"table .*none\.csv does not exist"):
            read(folder, "m.tsv", samples="none.csv")
        with pytest.raises(ValueError, match="brings no sample table; set `samples`"):
            read(folder, "m.tsv", samples=None)
