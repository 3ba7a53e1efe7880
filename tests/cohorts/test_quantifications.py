"""Folders with one file per sample, as quantification programs write them."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.cohorts.readers import read_cohort
from transcriptome_diffusion.expression.landmarks import load_panel

GENES = load_panel()["ensembl_id"].head(4).to_list()
SAMPLES = ["S1", "S10", "S2"]
#: two transcripts of each gene, samples x genes x transcripts
COUNTS = np.arange(1, 25).reshape(3, 4, 2) * 10.0
TPM = COUNTS / COUNTS.sum(axis=(1, 2), keepdims=True) * 1e6
TRANSCRIPTS = [[f"ENST0000000000{gene}.{version}" for version in (1, 2)] for gene in range(4)]


@pytest.fixture
def folder(tmp_path):
    table = pd.DataFrame({"sample": SAMPLES, "tissue": "lung", "donor": ["a", "b", "c"]})
    table.to_csv(tmp_path / "samples.csv", index=False)
    rows = [(f"ENST0000000000{gene}.{version}", GENES[gene]) for gene in range(4) for version in (1, 2)]
    pd.DataFrame(rows, columns=["TXNAME", "GENEID"]).to_csv(tmp_path / "tx2gene.tsv", sep="\t", index=False)
    (tmp_path / "quant").mkdir()
    return tmp_path


def read(folder, **options):
    return read_cohort("own", folder / "quant", {"samples": "samples.csv", "unit": "TPM"} | options)


def write(path, table, **settings):
    path.parent.mkdir(exist_ok=True)
    text = table.to_csv(sep="\t", index=False, **settings)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def transcripts(sample, ids, counts, tpm):
    return pd.DataFrame(
        {
            ids: np.ravel(TRANSCRIPTS),
            "length": 900,
            counts: COUNTS[sample].ravel(),
            tpm: TPM[sample].ravel(),
        }
    )


def genes(sample, ids="gene_id"):
    return pd.DataFrame({ids: GENES, "length": 900, "expected_count": COUNTS[sample].sum(1), "TPM": TPM[sample].sum(1)})


def salmon(folder):
    for place, sample in enumerate(SAMPLES):
        write(folder / "quant" / sample / "quant.sf", transcripts(place, "Name", "NumReads", "TPM"))
        write(folder / "quant" / sample / "cmd_info.json", pd.DataFrame({"x": [1]}))


def kallisto(folder):
    for place, sample in enumerate(SAMPLES):
        write(folder / "quant" / sample / "abundance.tsv.gz", transcripts(place, "target_id", "est_counts", "tpm"))


def rsem(folder):
    for place, sample in enumerate(SAMPLES):
        write(folder / "quant" / f"{sample}.genes.results", genes(place))
        isoforms = transcripts(place, "transcript_id", "expected_count", "TPM").assign(gene_id="x")
        write(folder / "quant" / f"{sample}.isoforms.results", isoforms)


def stringtie(folder):
    for place, sample in enumerate(SAMPLES):
        write(folder / "quant" / sample / "gene_abund.tab", genes(place, "Gene ID").drop(columns="expected_count"))


def htseq(folder):
    for place, sample in enumerate(SAMPLES):
        table = pd.DataFrame({"gene": [*GENES, "__no_feature"], "count": [*COUNTS[place].sum(1), 7]})
        write(folder / "quant" / f"{sample}.htseq.counts.gz", table, header=False)


def star(folder):
    for place, sample in enumerate(SAMPLES):
        counts = np.array([9, *COUNTS[place].sum(1)])
        table = pd.DataFrame({"gene": ["N_unmapped", *GENES], 1: counts, 2: counts * 2, 3: counts * 3})
        write(folder / "quant" / f"{sample}_ReadsPerGene.out.tab", table.astype({1: int, 2: int, 3: int}), header=False)


def gdc(folder):
    for place, sample in enumerate(SAMPLES):
        counts = COUNTS[place].sum(1)
        columns = {"unstranded": counts, "stranded_first": 2 * counts, "stranded_second": 3 * counts}
        table = pd.DataFrame({"gene_id": GENES, "gene_name": "x", "gene_type": "y", **columns})
        table = table.assign(tpm_unstranded=TPM[place].sum(1), fpkm_unstranded=1.0)
        unmapped = pd.DataFrame({"gene_id": ["N_unmapped"], **dict.fromkeys(columns, 7)})
        path = folder / "quant" / f"file-{place}" / f"{sample}.rna_seq.augmented_star_gene_counts.tsv"
        write(path, pd.concat([unmapped, table]))
        path.write_text("# gene-model: GENCODE v36\n" + path.read_text())


@pytest.mark.parametrize(
    ("program", "units"),
    [
        (salmon, ["TPM", "counts"]),
        (kallisto, ["TPM", "counts"]),
        (rsem, ["TPM", "counts"]),
        (stringtie, ["TPM"]),
        (htseq, ["counts"]),
        (star, ["counts"]),
        (gdc, ["TPM", "counts"]),
    ],
)
def test_every_program_gives_the_same_values_of_genes(folder, program, units):
    program(folder)
    for unit in units:
        cohort = read(folder, unit=unit, tx2gene="tx2gene.tsv")
        assert (list(cohort.obs_names), list(cohort.var_names), cohort.uns["unit"]) == (SAMPLES, GENES, unit)
        expected = {"TPM": TPM, "counts": COUNTS}[unit].sum(axis=2)
        np.testing.assert_allclose(cohort.X, expected, rtol=1e-5)
    for unit in {"TPM", "counts"} - set(units):
        with pytest.raises(ValueError, match=rf"declare `unit: {units[0]}`"):
            read(folder, unit=unit)


@pytest.mark.parametrize("program", [star, gdc])
def test_the_strand_of_star_is_a_choice(folder, program):
    program(folder)
    np.testing.assert_allclose(read(folder, unit="counts", strand="reverse").X, 3 * COUNTS.sum(axis=2))


def test_files_may_be_named_in_the_sample_table(folder):
    rsem(folder)
    table = pd.read_csv(folder / "samples.csv").assign(where=[f"{s}.genes.results" for s in ("S10", "S2", "S1")])
    table.to_csv(folder / "quant" / "named.csv", index=False)
    cohort = read(folder, samples="named.csv", columns={"file": "where"})
    np.testing.assert_allclose(cohort.X, TPM.sum(axis=2)[[1, 2, 0]], rtol=1e-5)
    assert "where" not in cohort.obs
    assert "file" not in cohort.obs
    (folder / "quant" / "S2.genes.results").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 files of the sample table are not there, .*S2\.genes\.results"):
        read(folder, samples="named.csv", columns={"file": "where"})


def test_the_sample_sheet_of_the_gdc_names_files_in_folders_below(folder):
    gdc(folder)
    names = [f"{sample}.rna_seq.augmented_star_gene_counts.tsv" for sample in ("S10", "S2", "S1")]
    sheet = {"File Name": names, "Project ID": "TCGA-BRCA", "Case ID": list("abc"), "Sample ID": SAMPLES}
    pd.DataFrame(sheet).to_csv(folder / "gdc_sample_sheet.tsv", sep="\t", index=False)
    columns = {"sample": "Sample ID", "file": "File Name", "donor": "Case ID", "tissue": "Project ID"}
    cohort = read(folder, samples="gdc_sample_sheet.tsv", columns=columns, unit="counts")
    np.testing.assert_allclose(cohort.X, COUNTS.sum(axis=2)[[1, 2, 0]], rtol=1e-6)


def test_samples_without_a_file_are_left_out(folder):
    rsem(folder)
    (folder / "quant" / "S1.genes.results").unlink()
    (folder / "quant" / "S1.isoforms.results").unlink()
    assert list(read(folder).obs_names) == ["S10", "S2"]  # and S10 is not S1


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (lambda f: salmon(f), {}, r"salmon and holds transcripts, such as 'ENST\d+\.1'\. Set `tx2gene`"),
        (lambda f: rsem(f), {"unit": "FPKM"}, "`unit: counts` or `unit: TPM` can be read, not 'FPKM'"),
        (lambda f: rsem(f), {"samples": None}, "is a folder: set `samples` of the cohort"),
        (lambda f: rsem(f), {"columns": {"file": "x"}}, "no column 'x' for file"),
        (lambda f: None, {}, "no file of .* is named after a sample, such as 'S1'"),
        (
            lambda f: [write(f / "quant" / s / f"{n}.genes.results", genes(0)) for s in SAMPLES for n in "ab"],
            {},
            r"several files of .* are named after 'S1': \['a\.genes\.results', 'b\.genes\.results'\]",
        ),
    ],
)
def test_what_cannot_be_read_is_named(folder, spoil, options, message):
    spoil(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read(folder, **options)


def test_a_table_of_other_transcripts_is_refused(folder):
    salmon(folder)
    (folder / "tx2gene.tsv").write_text("tx\tgene\nNM_1\tA\n")
    with pytest.raises(ValueError, match=r"100% of the transcripts .* are not in `tx2gene`: are both of one"):
        read(folder, tx2gene="tx2gene.tsv")
