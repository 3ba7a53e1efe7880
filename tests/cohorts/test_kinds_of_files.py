"""Files as programs and portals write them: each comes back as the same cohort, or is refused in one right sentence."""

from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.cohorts.readers import read_cohort
from transcriptome_diffusion.expression.identifiers import combine_repeats, guess_ids, identify
from transcriptome_diffusion.expression.landmarks import load_aliases, load_panel, match_panel, select_landmarks
from transcriptome_diffusion.expression.options import IngestionOptions, LandmarkOptions
from transcriptome_diffusion.pipelines.ingestion.nodes import prepare_cohort

PANEL = load_panel().head(8)
SAMPLES = [f"S{i}" for i in range(6)]
VALUES = np.round(np.random.default_rng(0).gamma(1, 300, (6, 8)), 2)


def frame(ids=PANEL["ensembl_id"], values=VALUES, name="gene"):
    """Genes in rows."""
    return pd.DataFrame(values.T, index=pd.Index(list(ids), name=name), columns=SAMPLES)


@pytest.fixture
def folder(tmp_path):
    table = pd.DataFrame({"sample": SAMPLES, "organ": ["liver", "lung"] * 3, "patient": [f"p{i}" for i in range(6)]})
    table.to_csv(tmp_path / "samples.csv", index=False)
    return tmp_path


def read(folder, name, **options):
    settings = {"samples": "samples.csv", "columns": {"sample": "sample", "tissue": "organ", "donor": "patient"}}
    return read_cohort("own", folder / name, settings | {"unit": "TPM"} | options)


def agrees(cohort, column="ensembl_id"):
    """The cohort has all values under the panel's genes."""
    assert list(cohort.obs_names) == SAMPLES
    match = match_panel(cohort.var, PANEL)
    assert match["found"].all(), match
    np.testing.assert_allclose(cohort[:, match["gene"]].X, VALUES, rtol=1e-6)
    assert cohort.var.loc[match["gene"], column].tolist() == PANEL[column].tolist()
    assert cohort.n_vars == len(PANEL)


def featurecounts(folder):
    matrix = frame().rename(columns=lambda sample: f"/data/aln/{sample}.sorted.bam")
    for place, (name, cell) in enumerate(
        {"Chr": "chr1;chr1", "Start": 1, "End": 9, "Strand": "+", "Length": 1200}.items()
    ):
        matrix.insert(place, name, cell)
    text = '# Program:featureCounts v2.0.3; Command:"featureCounts" "-a"\n'
    (folder / "m.txt").write_text(text + matrix.to_csv(sep="\t", index_label="Geneid"))


def cbioportal(folder):
    matrix = frame(PANEL["symbol"])
    matrix.insert(0, "Entrez_Gene_Id", PANEL["entrez_id"].to_list())
    matrix.to_csv(folder / "m.txt", sep="\t", index_label="Hugo_Symbol")


def depmap(folder):
    names = [f"{symbol} ({entrez})" for symbol, entrez in zip(PANEL["symbol"], PANEL["entrez_id"], strict=True)]
    frame(names).T.to_csv(folder / "m.txt", sep=",")


def nf_core(folder):
    matrix = frame([f"{gene}.4" for gene in PANEL["ensembl_id"]], name="gene_id")
    matrix.insert(0, "gene_name", PANEL["symbol"].to_list())
    matrix.to_csv(folder / "m.txt", sep="\t")


def floats(folder):
    frame([f"{entrez}.0" for entrez in PANEL["entrez_id"]]).to_csv(folder / "m.txt", sep="\t")


def tcga_ids(folder):
    names = [f"{symbol}|{entrez}" for symbol, entrez in zip(PANEL["symbol"], PANEL["entrez_id"], strict=True)]
    frame(names).to_csv(folder / "m.txt", sep="\t")


def semicolons(folder):
    frame().to_csv(folder / "m.txt", sep=";")


def windows(folder):
    (folder / "m.txt").write_bytes(b"\xef\xbb\xbf" + frame().to_csv(sep="\t", lineterminator="\r\n").encode())


def blanks(folder):
    frame().rename(columns=lambda sample: f" {sample} ").to_csv(folder / "m.txt", sep="\t")


def width_at_the_end(folder):
    frame().assign(width=1500).to_csv(folder / "m.txt", sep="\t")


def biotype(folder):
    matrix = frame()
    matrix.insert(0, "biotype_of_it", "protein_coding")
    matrix.to_csv(folder / "m.txt", sep="\t")


def geo_series(folder):
    lines = ['!Series_title\t"A study"', '!Sample_geo_accession\t"S0"', "", "!series_matrix_table_begin"]
    text = frame(name="ID_REF").to_csv(sep="\t", quoting=2)
    (folder / "m.txt").write_text("\n".join(lines) + "\n" + text + "!series_matrix_table_end\n")


KINDS = {
    geo_series: "ensembl_id",
    featurecounts: "ensembl_id",
    cbioportal: "entrez_id",
    depmap: "entrez_id",
    nf_core: "symbol",
    floats: "entrez_id",
    tcga_ids: "entrez_id",
    semicolons: "ensembl_id",
    windows: "ensembl_id",
    blanks: "ensembl_id",
    width_at_the_end: "ensembl_id",
    biotype: "ensembl_id",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_matrix_is_read_by_what_its_columns_mean(folder, kind):
    kind(folder)
    agrees(read(folder, "m.txt"), KINDS[kind])


def test_a_gct_of_version_3_brings_metadata_that_are_no_expression(folder):
    matrix = frame(name="id")
    matrix.insert(0, "pr_gene_symbol", PANEL["symbol"].to_list())
    matrix.insert(1, "pr_is_lm", "1")
    header, *rows = matrix.to_csv(sep="\t").splitlines()
    metadata = "\t".join(["dose", "na", "na", *"123456"])
    (folder / "m.gct").write_text("\n".join(["#1.3", "8\t6\t2\t1", header, metadata, *rows]) + "\n")
    cohort = read(folder, "m.gct")
    agrees(cohort)
    assert cohort.var["symbol"].tolist() == PANEL["symbol"].tolist()
    (folder / "m.gct").write_text("\n".join(["#1.3", "9\t6\t2\t1", header, metadata, *rows]) + "\n")
    with pytest.raises(ValueError, match="announces 9 genes, but has 8"):
        read(folder, "m.gct")


def test_decimal_commas_are_named_and_read_on_demand(folder):
    frame().to_csv(folder / "m.csv", sep=";", decimal=",")
    with pytest.raises(ValueError, match=r"found '\d+,\d+'.*If commas are decimal signs, set `decimal: ','`"):
        read(folder, "m.csv")
    agrees(read(folder, "m.csv", decimal=","))
    text = (folder / "m.csv").read_text().replace(";S1", ";S1", 1)
    (folder / "m.csv").write_text(text.replace(str(VALUES[0, 1]).replace(".", ","), "1,2,3"))
    with pytest.raises(ValueError, match="found '1,2,3'"):
        read(folder, "m.csv", decimal=",")


def test_lengths_come_from_a_column_beside_the_values_and_make_tpm(folder):
    lengths = np.arange(1000, 9000, 1000)
    frame(values=np.rint(VALUES)).assign(width=lengths).to_csv(folder / "m.txt", sep="\t")
    cohort = read(folder, "m.txt", unit="counts")
    assert cohort.var["length"].tolist() == lengths.tolist()
    cohort.obs["tissue"] = "lung"
    prepared = prepare_cohort(cohort, IngestionOptions(min_samples_per_tissue=1, normalise="tpm"))
    np.testing.assert_allclose((np.exp2(prepared.X) - 1).sum(axis=1), 1e6, rtol=1e-4)
    assert prepared.uns["unit"] == "log2(TPM + 1)"
    with pytest.raises(ValueError, match=r"`ingestion\.normalise: tmm` is for read counts, and the cohort is in TPM"):
        prepare_cohort(read(folder, "m.txt"), IngestionOptions(normalise="tmm"))


class TestSampleTable:
    def rewrite(self, folder, edit, encoding="utf-8"):
        frame().to_csv(folder / "m.txt", sep="\t")
        text = (folder / "samples.csv").read_text()
        (folder / "samples.csv").write_bytes(edit(text).encode(encoding))

    @pytest.mark.parametrize(
        ("edit", "encoding"),
        [
            (lambda text: text.replace(",", ";"), "utf-8"),
            (lambda text: text.replace(",", "\t"), "utf-8"),
            (lambda text: text.replace(",", " "), "utf-8"),
            (lambda text: text, "utf-8-sig"),
            (lambda text: text, "utf-16"),
            (lambda text: text.replace(",", " ,").replace("\n", " \n"), "utf-8"),
            (lambda text: text.replace("\n", "\r\n"), "utf-8"),
            (lambda text: "".join(f'"{line}"\n'.replace(",", '","') for line in text.splitlines()), "utf-8"),
        ],
    )
    def test_its_separator_encoding_and_blanks_are_found_out(self, folder, edit, encoding):
        self.rewrite(folder, edit, encoding)
        cohort = read(folder, "m.txt")
        agrees(cohort)
        assert cohort.obs["tissue"].tolist() == ["liver", "lung"] * 3

    def test_a_header_that_r_left_one_cell_short(self, folder):
        self.rewrite(folder, lambda text: text.removeprefix("sample,"))
        agrees(read(folder, "m.txt", columns={"tissue": "organ", "donor": "patient"}))

    def test_a_workbook(self, folder):
        pytest.importorskip("openpyxl")
        self.rewrite(folder, str)
        pd.read_csv(folder / "samples.csv").to_excel(folder / "samples.xlsx", index=False)
        agrees(read(folder, "m.txt", samples="samples.xlsx"))

    def test_samples_that_the_matrix_lacks_are_counted(self, folder, caplog):
        self.rewrite(folder, lambda text: text + "S98,liver,p8\nS99,liver,p9\n")
        with caplog.at_level(logging.INFO):
            agrees(read(folder, "m.txt"))
        assert "2 samples of the sample table are not in the matrix" in caplog.text

    def test_names_that_r_rewrote_are_told_with_the_remedy(self, folder):
        self.rewrite(folder, lambda text: text.replace("S", "1-S"))
        frame().rename(columns=lambda sample: f"X1.{sample}").to_csv(folder / "m.txt", sep="\t")
        with pytest.raises(ValueError, match=r"'X1\.S0' is what R makes of '1-S0'.*check\.names = FALSE"):
            read(folder, "m.txt")


class TestAnnData:
    def write(self, folder, **changes):
        obs = pd.DataFrame({"barcode": SAMPLES, "organ": "lung", "patient": SAMPLES}, index=[str(i) for i in range(6)])
        cohort = ad.AnnData(VALUES, obs=obs, var=pd.DataFrame(index=PANEL["ensembl_id"].to_list()), **changes)
        cohort.write_h5ad(folder / "m.h5ad")

    def read(self, folder, **options):
        columns = {"sample": "barcode", "tissue": "organ", "donor": "patient"}
        return read(folder, "m.h5ad", **{"samples": None, "columns": columns} | options)

    def test_the_samples_column_and_a_layer_are_honoured(self, folder):
        self.write(folder, layers={"tpm": 2 * VALUES})
        agrees(self.read(folder))
        np.testing.assert_allclose(self.read(folder, layer="tpm").X, 2 * VALUES, rtol=1e-6)
        with pytest.raises(ValueError, match=r"has no layer 'x', only \['tpm'\]"):
            self.read(folder, layer="x")
        with pytest.raises(ValueError, match=r"has no column 'id' in obs for the sample; its columns are \['barcode'"):
            self.read(folder, columns={"sample": "id", "tissue": "organ"})
        with pytest.raises(ValueError, match="an h5ad, which has samples in rows"):
            self.read(folder, genes_in="rows")

    def test_what_scanpy_says_of_a_logarithm_is_believed(self, folder):
        self.write(folder, uns={"log1p": {"base": None}})
        with pytest.raises(ValueError, match=r"says in uns\['log1p'\] that X is ln\(x \+ 1\), .* unit is TPM"):
            self.read(folder)
        with pytest.raises(ValueError, match=r"declared unit is log2\(TPM \+ 1\)\. Declare `unit: ln\(TPM \+ 1\)`"):
            self.read(folder, unit="log2(TPM + 1)")


class TestGenes:
    @pytest.mark.parametrize(
        ("how", "expected"), [("sum", [4, 2, 9]), ("max", [3, 2, 5]), ("mean", [2, 2, 4.5]), ("drop", [2])]
    )
    def test_rows_of_one_gene_are_combined(self, how, expected):
        places, var = identify(["A", "B", "A", "C", "C"], repeats="keep")
        values, table = combine_repeats(np.array([[1.0, 2, 3, 4, 5]])[:, places], var, how)
        assert values.tolist() == [expected]
        assert list(table.index) == ({"drop": ["B"]}.get(how, ["A", "B", "C"]))

    def test_repeated_rows_of_a_users_matrix_are_summed_and_named(self, folder, caplog):
        matrix = frame(PANEL["symbol"])
        pd.concat([matrix, matrix.head(1)]).to_csv(folder / "m.txt", sep="\t", index_label="gene")
        cohort = read(folder, "m.txt")
        np.testing.assert_allclose(cohort.X[:, 0], 2 * VALUES[:, 0], rtol=1e-6)
        assert f"1 gene ids of m.txt stand in several rows, of which the sum was taken: {PANEL['symbol'][0]}" in (
            caplog.text
        )

    def test_rows_without_a_symbol_are_no_gene(self, caplog):
        places, var = identify(["A", "NA", "---", "B", "NA"], repeats="keep")
        assert places.tolist() == [0, 3]
        assert list(var.index) == ["A", "B"]
        assert "Dropped 3 rows without a symbol" in caplog.text

    def test_symbols_that_a_spreadsheet_made_dates_are_named(self, caplog):
        identify(["TP53", "1-Mar", "Sep-02"])
        assert "2 symbols of the matrix were turned into dates by a spreadsheet, such as 1-Mar, Sep-02" in caplog.text

    def test_present_and_former_symbols_find_the_panel(self):
        panel, aliases = load_panel(), load_aliases()
        assert set(aliases) <= set(panel["symbol"])
        names = panel["symbol"].map(lambda symbol: aliases.get(symbol, [symbol])[0])
        _, var = identify(names.tolist())
        match = match_panel(var, panel)
        assert match["found"].all()
        assert match["matched_by"].value_counts().to_dict() == {"symbol": 978 - len(aliases), "alias": len(aliases)}
        # the panel's own symbol wins over an alias
        _, both = identify(["AARS1", "AARS"])
        assert match_panel(both, panel).set_index("symbol").at["AARS", "gene"] == "AARS"

    @pytest.mark.parametrize(
        ("ids", "message"),
        [
            (["ENSMUSG00000090861", "ENSMUSG00000204574"], "of mouse: map them to their human orthologues"),
            (["Trp53", "Myc", "Gapdh", "Actb"], "of mouse"),
            (["ENSRNOG00000000001"], "of another species"),
            (["ENST00000000001.2"], "of transcripts: sum transcripts to genes first"),
            (["1007_s_at", "1053_at"], "of microarray probes: name a gene table"),
            (["P04637", "Q9Y6K9"], "of proteins"),
            (["x1", "x2"], "Check that the cohort's columns"),
        ],
    )
    def test_a_panel_that_is_not_found_shows_both_sides_and_a_guess(self, ids, message):
        _, var = identify(ids, kind="symbol")
        cohort = ad.AnnData(np.ones((2, len(ids)), dtype=np.float32), var=var)
        with pytest.raises(ValueError, match=message) as caught:
            select_landmarks(cohort, match_panel(var, load_panel()), LandmarkOptions())
        assert f"{ids[:3]}" in str(caught.value)
        assert "the panel with ['16', 'AARS'," in str(caught.value)
        assert guess_ids(["TP53", "MYC"]).startswith(" Check")


class TestTransformedScale:
    """VST, rlog, voom or corrected logarithms, which have no zero and no way back."""

    def write(self, folder, values):
        frame(values=values).to_csv(folder / "m.txt", sep="\t")

    def test_values_stay_as_they_are_under_their_name(self, folder):
        voom = np.log2(VALUES + 0.5) - 7  # some are negative
        self.write(folder, voom)
        cohort = read(folder, "m.txt", unit="voom", scale="transformed")
        prepared = prepare_cohort(cohort, IngestionOptions(label="tissue", min_samples_per_tissue=1))
        np.testing.assert_allclose(prepared.X, voom, rtol=1e-5)
        assert prepared.uns["unit"] == "voom"
        assert voom.min() < 0

    def test_linear_values_are_no_transformed_scale(self, folder):
        self.write(folder, VALUES)
        cohort = read(folder, "m.txt", unit="VST", scale="transformed")
        with pytest.raises(ValueError, match=r"declared as transformed \(VST\), yet reach .*remove `scale:"):
            prepare_cohort(cohort, IngestionOptions(min_samples_per_tissue=1))

    @pytest.mark.parametrize("options", [{"min_expressed_share": 0.1}, {"missing": "zero"}])
    def test_what_takes_zero_for_the_lowest_value_is_refused(self, folder, options):
        self.write(folder, np.log2(VALUES + 0.5))
        cohort = read(folder, "m.txt", unit="rlog", scale="transformed")
        with pytest.raises(ValueError, match="rlog is a transformed scale, in which zero is not the lowest value"):
            prepare_cohort(cohort, IngestionOptions(**options))

    def test_the_scale_has_a_name(self, folder):
        with pytest.raises(ValueError, match="`scale: transformed` needs a name of the scale as `unit`"):
            read(folder, "m.txt", unit=None, scale="transformed")

    def test_rows_of_one_gene_are_averaged(self, folder):
        matrix = frame(values=np.log2(VALUES + 0.5))
        pd.concat([matrix, matrix.head(1) + 1]).to_csv(folder / "m.txt", sep="\t")
        cohort = read(folder, "m.txt", unit="rlog", scale="transformed")
        np.testing.assert_allclose(cohort.X[:, 0], np.log2(VALUES[:, 0] + 0.5) + 0.5, rtol=1e-5)
