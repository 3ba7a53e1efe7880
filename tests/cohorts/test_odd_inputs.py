"""The table of odd inputs: each is read with the right values, or refused in one sentence that says what to do."""

from __future__ import annotations

import gzip
import logging
import re
import zipfile

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csc_matrix

from transcriptome_diffusion.cohorts.readers import read_cohort
from transcriptome_diffusion.expression.landmarks import load_panel, match_panel, select_landmarks
from transcriptome_diffusion.expression.options import IngestionOptions, LandmarkOptions
from transcriptome_diffusion.pipelines.ingestion.nodes import prepare_cohort

PANEL = load_panel().head(60)
N, G = 24, len(PANEL)
SAMPLES = [f"S{i:02}" for i in range(N)]
TABLE = pd.DataFrame({"id": SAMPLES, "organ": ["liver", "lung"] * 12, "patient": [f"p{i}" for i in range(N)]})
COLUMNS = {"sample": "id", "tissue": "organ", "donor": "patient"}

RNG = np.random.default_rng(5)
SHARES = np.exp(RNG.normal(1, 3, G) + RNG.normal(0, 0.6, (N, G))) * (RNG.random((N, G)) > 0.1)
TPM = np.round(1e6 * SHARES / SHARES.sum(axis=1, keepdims=True), 3)
DEPTH = np.linspace(1, 6, N)[:, None]
COUNTS = RNG.poisson(TPM * DEPTH).astype(float)
CPM = 1e6 * COUNTS / COUNTS.sum(axis=1, keepdims=True)
LOG = np.log2(TPM + 1)
Z = (LOG - LOG.mean(axis=0)) / LOG.std(axis=0)
#: what may come out
SAME, NORMALISED = LOG, np.log2(CPM + 1)
ROW = np.arange(N)[:, None]


def frame(values=TPM, ids=PANEL["ensembl_id"], columns=SAMPLES, name="gene"):
    """Genes in rows."""
    return pd.DataFrame(np.asarray(values).T, index=pd.Index(list(ids), name=name), columns=columns)


def outcome(folder, name="m.tsv", **options):
    """The prepared cohort, after the panel was looked for."""
    if not (folder / "samples.csv").exists():
        TABLE.to_csv(folder / "samples.csv", index=False)
    settings = {"samples": "samples.csv", "columns": COLUMNS, "unit": "TPM"} | options
    cohort = prepare_cohort(read_cohort("own", folder / name, settings), IngestionOptions(min_samples_per_tissue=5))
    match = match_panel(cohort.var, PANEL)
    select_landmarks(cohort, match, LandmarkOptions())
    return cohort[:, match.loc[match["found"], "gene"]]


def check(folder, caplog, expected, said=None, **options):
    """``expected``: values, a sentence of an error, or, where only a warning is meant, None."""
    with caplog.at_level(logging.WARNING):
        if isinstance(expected, str):
            with pytest.raises((ValueError, FileNotFoundError), match=expected) as caught:
                outcome(folder, **options)
            assert len(str(caught.value)) < 1100
        else:
            cohort = outcome(folder, **options)
            if expected is not None:
                np.testing.assert_allclose(cohort.X, expected[:, -cohort.n_vars :], atol=2e-3)
    if said is not None:
        assert re.search(said, caplog.text)


# ------------------------------------------------------------------------------------------------------------ units
def with_sample(values, other):
    return np.where(ROW == 3, other, values)


UNITS = {
    "counts as TPM": (COUNTS, "TPM", "whole numbers, as counts are.*`unit: counts`"),
    "counts as FPKM": (COUNTS, "FPKM", "declared as FPKM, yet all are whole numbers.*`unit: counts`"),
    "counts without a unit": (COUNTS, None, "sequencing depth would be learnt as biology.*`unit: counts`"),
    "counts as logarithms": (COUNTS, "log2(TPM + 1)", "look linear already"),
    "logarithms of counts as of TPM": (np.log2(COUNTS + 1), "log2(TPM + 1)", "whole numbers.*`unit: counts`"),
    "logarithms of counts as of FPKM": (np.log2(COUNTS + 1), "log2(FPKM + 1)", "whole numbers.*`unit: counts`"),
    "logarithms of counts": (np.log2(COUNTS + 1), "log2(counts + 1)", NORMALISED),
    "logarithms as counts": (LOG, "counts", "fractions up to .*, as logarithms are"),
    "CPM as counts": (CPM, "counts", "yet are fractions, .*normalised already.*`unit: CPM`"),
    "marks of presence": (TPM > 50, "counts", "none exceeds 1: they are marks of presence"),
    "negative counts": (with_sample(COUNTS, -COUNTS), "counts", "read counts must not be negative"),
    "DESeq2's normalised counts as TPM": (3 * COUNTS / DEPTH, "TPM", "All samples have nearly the same sum"),
    "DESeq2's normalised counts by name": (COUNTS / DEPTH, "normalised counts", np.log2(COUNTS / DEPTH + 1)),
    "CP10K as TPM": (CPM / 100, "TPM", "It fits CP10K: declare `unit: CP10K`"),
    "scanpy's log1p as log2": (np.log1p(CPM / 100), "log2(TPM + 1)", r"As ln\(CP10K \+ 1\) they would sum to 10,000"),
    "scanpy's log1p": (np.log1p(CPM / 100), "ln(CP10K + 1)", np.log2(CPM / 100 + 1)),
    "ln as log2": (np.log1p(TPM), "log2(TPM + 1)", r"As ln\(TPM \+ 1\) they would sum to 1,000,000"),
    "log10 as log2": (np.log10(TPM + 1), "log2(TPM + 1)", r"As log10\(TPM \+ 1\) they would sum"),
    "log2 as log10": (LOG, "log10(TPM + 1)", "look linear already"),
    "logarithm taken twice": (np.log2(LOG + 1), "log2(TPM + 1)", "was the logarithm taken twice"),
    "z-scores as log2": (Z, "log2(TPM + 1)", "they fit z-scores or centred logarithms"),
    "z-scores as TPM": (Z, "TPM", "they fit z-scores or centred logarithms, not TPM"),
    "centred logarithms": (LOG - np.median(LOG, axis=0), "log2(TPM + 1)", "they fit z-scores or centred"),
    "voom as log2(CPM + 1)": (
        np.log2((COUNTS + 0.5) / (COUNTS.sum(axis=1, keepdims=True) + 1) * 1e6),
        "log2(CPM + 1)",
        r"voom's and edgeR's logarithms are `unit: log2\(CPM\)`",
    ),
    "a forgotten offset": (LOG, "log2(TPM)", r"values are exactly 0.*It fits log2\(TPM \+ 1\)"),
    "VST as log2(CPM + 1)": (np.log2(3 * COUNTS / DEPTH + 30), "log2(CPM + 1)", "`scale: transformed`"),
    "percent": (TPM / 1e4, "TPM", "All samples have nearly the same sum"),
    "TPM of ten million": (TPM * 10, "TPM", "All samples have nearly the same sum"),
    "ranks": (TPM.argsort(1).argsort(1) + 1.0, "TPM", "All samples have nearly the same sum"),
    "one sample of counts": (with_sample(TPM, COUNTS), "TPM", "1 of 24 samples do not sum to 1,000,000 .*S03"),
    "one sample of logarithms": (with_sample(TPM, LOG), "FPKM", "1 of 24 samples look like logarithms.*S03"),
    "one sample of ln": (with_sample(LOG, np.log1p(TPM)), "log2(TPM + 1)", "1 of 24 samples do not sum .*S03"),
    "one linear sample": (with_sample(LOG, TPM), "log2(TPM + 1)", "look linear already"),
    "an empty sample": (with_sample(TPM, 0 * TPM), "TPM", "1 of 24 samples have no value above zero: S03"),
    "no unit, logarithms": (LOG, None, "the unit cannot be told"),
    "no unit, linear": (TPM, None, SAME),
    "tpm in small letters": (TPM, "tpm", SAME),
    "Log2 with a capital": (LOG, "Log2(TPM+1)", SAME),
    "log1p": (np.log1p(TPM), "log1p(TPM)", SAME),
    "a logarithm of no base": (np.log1p(TPM), "log(TPM + 1)", "is not understood; write it as"),
    "read_counts": (COUNTS, "read_counts", NORMALISED),
}


@pytest.mark.parametrize("case", UNITS)
def test_units(tmp_path, caplog, case):
    values, unit, expected = UNITS[case]
    frame(np.asarray(values, dtype=float)).to_csv(tmp_path / "m.tsv", sep="\t")
    check(tmp_path, caplog, expected, unit=unit)


@pytest.mark.parametrize("negative", ["zero", "keep"])
def test_a_few_negative_values_become_zero_or_stay(tmp_path, caplog, negative):
    corrected = LOG - 0.3 * (LOG < 1)
    frame(corrected).to_csv(tmp_path / "m.tsv", sep="\t")
    check(tmp_path, caplog, "as a correction of batches leaves some.*`negative: zero`", unit="log2(TPM + 1)")
    expected = np.maximum(corrected, 0) if negative == "zero" else corrected
    check(tmp_path, caplog, expected, unit="log2(TPM + 1)", negative=negative)
    with pytest.raises(ValueError, match="keeps all values as they are: remove `negative`"):
        outcome(tmp_path, unit="VST", scale="transformed", negative=negative)


# ------------------------------------------------------------------------------------------------------------- text
def text(change=lambda content: content, encoding="utf-8", values=TPM, **settings):
    """Write the matrix with pandas' settings, and change the text."""

    def write(folder):
        content = change(frame(values).to_csv(**{"sep": "\t"} | settings))
        (folder / "m.tsv").write_bytes(content if isinstance(content, bytes) else content.encode(encoding))

    return write


def table(make):
    return lambda folder: make(frame()).to_csv(folder / "m.tsv", sep="\t")


def cell(word):
    return text(lambda content: re.sub(r"(?m)^(ENSG\d+\t[^\t]+\t)[^\t]+", rf"\g<1>{word}", content, count=1))


def thousands(values, form):
    return lambda folder: frame(values).map(form).to_csv(folder / "m.tsv", sep="\t")


def row_after_header(content):
    return content.replace("\n", "\n\t" + "\t".join(["TPM"] * N) + "\n", 1)


TEXTS = {
    "UTF-16": (text(encoding="utf-16"), "is not UTF-8.*Save the file as UTF-8"),
    "byte order mark": (text(encoding="utf-8-sig"), SAME),
    "lines of Windows": (text(lineterminator="\r\n"), SAME),
    "lines of an old Macintosh": (text(lineterminator="\r"), "line ends of an old Macintosh"),
    "semicolons and decimal commas": (text(sep=";", decimal=","), "If commas are decimal signs, set `decimal: ','`"),
    "bars": (text(sep="|"), SAME),
    "blanks": (text(sep=" "), SAME),
    "commas under another name": (text(sep=","), SAME),
    "gzip under another name": (text(lambda content: gzip.compress(content.encode())), SAME),
    "quotation marks": (text(quoting=1), SAME),
    "blanks around numbers": (text(lambda content: content.replace("\t", "\t ").replace("\n", " \n")), SAME),
    "a tab at the end of all lines": (text(lambda c: c.replace("\n", "\t\n")), "Does every line end with a separator"),
    "a tab at the end of rows": (
        text(lambda c: c[: c.index("\n") + 1] + c[c.index("\n") + 1 :].replace("\n", "\t\n")),
        "The line ends with a separator, and the header does not",
    ),
    "descriptions with commas": (
        lambda folder: frame().assign(about="a, b").iloc[:, ::-1].to_csv(folder / "m.tsv"),
        "Cells in quotation marks that hold the separator",
    ),
    "commas between thousands": (thousands(COUNTS, "{:,.0f}".format), "If commas separate thousands, remove them"),
    "blanks between thousands": (thousands(COUNTS, lambda x: f"{x:,.0f}".replace(",", " ")), "found '[0-9 ]+'"),
    "exponents": (thousands(TPM, "{:.6E}".format), SAME),
    **{f"a gap, {word!r}": (cell(word), "1 of 60 genes have missing values") for word in ("NA", "", "n/a", "None")},
    **{f"no number, {word!r}": (cell(word), f"found '{word}'") for word in ("-", "#DIV/0!", "Inf", "TRUE", "1e40")},
    "a line of comments": (text(lambda content: f"# by me\n# today\n{content}"), SAME),
    "a title": (text(lambda content: f"Table S3\n\n{content}"), "stand in the first line, without a title"),
    "a line of units": (text(row_after_header), "line 2: a gene without a name"),
    "empty lines at the end": (text(lambda content: content + "\n\n"), SAME),
    "an empty line between": (text(lambda c: c.replace("\nENSG", "\n\nENSG", 3)), "empty, but genes follow"),
    "an empty file": (text(lambda content: ""), "is empty"),
    "a header alone": (text(lambda content: content.split("\n")[0]), "has a header but no gene"),
    "no header": (text(header=False), "matches no sample"),
    "a web page": (text(lambda content: "<!DOCTYPE html>"), "is a web page"),
    "Matrix Market": (text(lambda content: "%%MatrixMarket matrix\n1 1 1\n"), "is a Matrix Market file"),
    "an R object": (text(lambda content: gzip.compress(b"X\n\0\0\0\3")), r"is an R object \(\.rds\)"),
    "a workbook": (text(lambda content: b"PK\x03\x04"), "is a zip archive .as Excel's"),
    "the index of pandas": (lambda folder: frame().reset_index().to_csv(folder / "m.tsv", sep="\t"), SAME),
    "genes in the last column": (
        lambda folder: frame().reset_index()[[*SAMPLES, "gene"]].to_csv(folder / "m.tsv", sep="\t", index=False),
        "If 'gene' names the genes, make it the first column",
    ),
    "samples in rows, no name above them": (lambda f: frame().T.to_csv(f / "m.tsv", sep="\t", index_label=""), SAME),
    "a row of totals": (table(lambda t: pd.concat([t, t.sum().to_frame("Total").T])), SAME),
    "one sample twice": (table(lambda t: t.rename(columns={"S01": "S00"})), "1 samples come several times in"),
    "columns of statistics": (table(lambda t: t.assign(mean=1.0, padj=0.5)), SAME),
}  # fmt: skip


@pytest.mark.parametrize("case", TEXTS)
def test_texts(tmp_path, caplog, case):
    write, expected = TEXTS[case]
    write(tmp_path)
    unit = "counts" if "thousands" in case else "TPM"
    check(tmp_path, caplog, expected, unit=unit)


def test_an_archive_and_an_empty_folder_are_no_matrix(tmp_path, caplog):
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("m.tsv", frame().to_csv(sep="\t"))
    check(tmp_path, caplog, "is a zip archive", name="m.zip")
    (tmp_path / "m").mkdir()
    check(tmp_path, caplog, "no file of .* is named after a sample", name="m")


# ------------------------------------------------------------------------------------------------- genes and samples
IDS = {
    "versions": (PANEL["ensembl_id"] + ".12", SAME, None),
    "RSEM's joined names": (PANEL["ensembl_id"] + ".3_" + PANEL["symbol"], SAME, None),
    "joined by a bar": (PANEL["ensembl_id"] + "|" + PANEL["symbol"], SAME, None),
    "floats of Entrez": (PANEL["entrez_id"] + ".0", SAME, None),
    "blanks around ids": (" " + PANEL["ensembl_id"] + " ", SAME, None),
    "small letters, Ensembl": (PANEL["ensembl_id"].str.lower(), "or in small letters: write them as ENSG", None),
    "small letters, symbols": (PANEL["symbol"].str.lower(), "in small letters, and human symbols in capitals", None),
    "a prefix": ("GRCh38_" + PANEL["ensembl_id"], "hold ids of Ensembl among other text", None),
    "dates": (["1-Mar", "2024-09-02", *PANEL["symbol"][2:]], SAME, "2 symbols .* were turned into dates"),
    "mouse, Ensembl": (PANEL["ensembl_id"].str.replace("ENSG", "ENSMUSG"), "of mouse: map them", None),
    "mouse, symbols": (PANEL["symbol"].str.capitalize(), "of mouse: map them", None),
    "mouse, Entrez": ([str(11_000 + i) for i in range(G)], "of another species, such as mouse", None),
    "mouse beside human": (
        [*PANEL["ensembl_id"][:30], *PANEL["ensembl_id"][30:].str.replace("ENSG", "ENSMUSG")],
        "mixes gene identifiers: 30 ensembl",
        None,
    ),
    "transcripts": (PANEL["ensembl_id"].str.replace("ENSG", "ENST"), "of transcripts: sum transcripts", None),
    "probes": ([f"{1000 + i}_at" for i in range(G)], "of microarray probes", None),
    "HGNC's numbers": ([f"HGNC:{i}" for i in range(G)], "Check that the cohort's columns", None),
    "symbols that are missing": (["NA", "NA", *PANEL["symbol"][2:]], None, "Dropped 2 rows without a symbol"),
    "rows of HTSeq": (["__no_feature", *PANEL["symbol"][1:]], None, "Dropped 1 rows that are no genes"),
}


@pytest.mark.parametrize("case", IDS)
def test_genes(tmp_path, caplog, case):
    ids, expected, said = IDS[case]
    frame(ids=ids).to_csv(tmp_path / "m.tsv", sep="\t")
    dropped = "missing" in case or "HTSeq" in case
    check(tmp_path, caplog, expected, said, **({"unit": "FPKM"} if dropped else {}))


def named(form):
    return lambda folder: frame(columns=[form.format(sample) for sample in SAMPLES]).to_csv(folder / "m.tsv", sep="\t")


NAMES = {
    "paths of alignments": (named("../bam/{0}/{0}_Aligned.sortedByCoord.out.bam"), SAME, "are named by the samples"),
    "folders of alignments": (named("/scratch/{}/accepted_hits.bam"), SAME, "are named by the samples"),
    "R's paths": (named("X.data.{}.bam"), SAME, "are named by the samples"),
    "an ending": (named("{}_TPM"), SAME, "are named by the samples"),
    "other capitals": (named("s{}"), "matches no sample", None),
    "counts beside TPM": (
        lambda folder: pd.concat([frame().add_suffix("_TPM"), frame().add_suffix("_count")], axis=1).to_csv(
            folder / "m.tsv", sep="\t"
        ),
        "several columns of .* hold the sample 'S00': 'S00_TPM', 'S00_count'",
        None,
    ),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_of_samples(tmp_path, caplog, case):
    write, expected, said = NAMES[case]
    write(tmp_path)
    check(tmp_path, caplog, expected, said)


def columns(**changes):
    return TABLE.assign(**changes).to_csv(index=False)


TABLES = {
    "bars": (TABLE.to_csv(index=False, sep="|"), SAME, None),
    "comments": (f"# mine\n{columns()}", SAME, None),
    "a comma at the end": (columns().replace("\n", ",\n"), SAME, None),
    "a title": (f"My samples,,\n{columns()}", r"has no column \['id'\]; its columns are \['My samples'", None),
    "nothing": ("", "is not a table", None),
    "a header alone": ("id,organ,patient\n", "has a header but no row", None),
    "half of the samples": (columns()[: columns().index("S12")], None, "Left out 12 of 24 samples without a row"),
    "a sample twice": (columns() + "S00,liver,p0\n", "1 samples come several times in the sample table", None),
    "a column twice": (columns().replace("patient", "organ"), "has several columns called 'organ'", None),
    "capitals": (columns(organ=["Liver", "liver ", "LUNG", "lung"] * 6), SAME, "Joined labels that differ in spelling"),
    "a plural": (columns(organ=["lung", "lungs"] * 12), SAME, "may mean the same: 'lung' and 'lungs'"),
    "British spelling": (columns(organ=["oesophagus", "esophagus"] * 12), SAME, "may mean the same"),
    "brackets": (columns(organ=["Brain - Cortex", "Brain (Cortex)"] * 12), SAME, "may mean the same"),
    "donors in two spellings": (columns(patient=["P1", "p1"] * 12), SAME, "Joined donors that differ in spelling"),
    "unknown donors": (columns(patient=["unknown"] * 4 + [*"abcdefghijklmnopqrst"]), "4 samples have no donor", None),
    "no donor": (columns(patient="NA"), "24 samples have no donor", None),
    "one class": (columns(organ="lung"), SAME, "The cohort has one class, 'lung'"),
    "no class": (columns(organ="--"), "no sample has a label", None),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLES)
def test_sample_tables(tmp_path, caplog, case):
    content, expected, said = TABLES[case]
    frame().to_csv(tmp_path / "m.tsv", sep="\t")
    (tmp_path / "samples.csv").write_text(content)
    check(tmp_path, caplog, expected, said)


# ------------------------------------------------------------------------------------------------------------- h5ad
def profiles(values=TPM, **changes):
    obs = TABLE.set_index("id", drop=False).rename_axis(None)
    return ad.AnnData(values, obs=obs, var=pd.DataFrame(index=PANEL["ensembl_id"].to_list()), **changes)


def relabelled(column, values):
    cohort = profiles()
    cohort.obs[column] = values
    return cohort


def with_raw():
    cohort = profiles()
    cohort.raw = cohort.copy()
    return cohort[:, :40].copy()


H5AD = {
    "sparse columns": (lambda: profiles(csc_matrix(TPM)), {}, SAME, None),
    "whole numbers": (lambda: profiles(COUNTS.astype(np.int32)), {"unit": "counts"}, NORMALISED, None),
    "small floats": (lambda: profiles(LOG.astype(np.float16)), {"unit": "log2(TPM + 1)"}, None, None),
    "floats too small": (lambda: profiles(TPM.astype(np.float16)), {}, "values are infinite", None),
    "a layer of counts": (
        lambda: profiles(LOG, layers={"counts": COUNTS}, uns={"log1p": {"base": None}}),
        {"unit": "counts", "layer": "counts"},
        NORMALISED,
        None,
    ),
    "log1p of another base": (
        lambda: profiles(LOG, uns={"log1p": {"base": np.array(2.0)}}),
        {"unit": "ln(TPM + 1)"},
        r"says in uns\['log1p'\] that X is log2\(x \+ 1\)",
        None,
    ),
    "raw": (with_raw, {}, "40 of 60 landmark genes", "60 genes in raw and 40 in X, and raw is not read"),
    "only layers": (
        lambda: ad.AnnData(obs=profiles().obs, var=profiles().var, layers={"tpm": TPM}),
        {},
        r"no values in X, only the layers \['tpm'\]",
        None,
    ),
    "transposed": (lambda: profiles().T.copy(), {}, "has no column 'id' in obs for the sample", None),
    "missing categories": (
        lambda: relabelled("organ", pd.Categorical([None, "lung"] * 12)),
        {},
        None,
        "Left out 12 of 24 samples without a label",
    ),
    "a donor is missing": (
        lambda: relabelled("patient", pd.Categorical([None, *"abcdefghijklmnopqrstuvw"])),
        {},
        "1 samples have no donor",
        None,
    ),
    "donors by number": (lambda: relabelled("patient", np.arange(N) / 2), {}, SAME, None),
    "infinite": (lambda: profiles(with_sample(TPM, np.inf)), {}, "values are infinite", None),
}


@pytest.mark.parametrize("case", H5AD)
def test_h5ad(tmp_path, caplog, case):
    make, options, expected, said = H5AD[case]
    make().write_h5ad(tmp_path / "m.h5ad")
    check(tmp_path, caplog, expected, said, name="m.h5ad", **{"samples": None} | options)
