"""The GTEx reader, on a small release in the published formats."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from transcriptome_diffusion.cohorts.gtex import read_gtex
from transcriptome_diffusion.cohorts.options import GTExOptions
from transcriptome_diffusion.expression.labels import label_samples
from transcriptome_diffusion.expression.landmarks import load_panel
from transcriptome_diffusion.expression.options import IngestionOptions, SplitOptions
from transcriptome_diffusion.pipelines.ingestion.nodes import filter_genes, prepare_cohort, split_samples

V8 = "GTEx_Analysis_2017-06-05_v8_RNASeQCv1.1.9_gene_tpm.gct.gz"
V10 = "GTEx_Analysis_v10_RNASeQCv2.4.2_gene_tpm.gct.gz"
V10_PLAIN = "GTEx_Analysis_2022-06-06_v10_RNASeQCv2.4.2_gene_tpm_non_lcm.gct"
V11 = "GTEx_Analysis_2025-08-22_v11_RNASeQCv2.4.3_gene_tpm.gct.gz"
LCM = "GTEx_Analysis_v10_RNASeQCv2.4.2_gene_tpm_lcm.gct.gz"
READS = "GTEx_Analysis_2017-06-05_v8_RNASeQCv1.1.9_gene_reads.gct.gz"
ATTRIBUTES = "GTEx_Analysis_v8_Annotations_SampleAttributesDS.txt"
PHENOTYPES = "GTEx_Analysis_v8_Annotations_SubjectPhenotypesDS.txt"
MODEL = "gencode.v26.GRCh38.genes.gtf"

SAMPLES = [
    "GTEX-1117F-0226-SM-5GZZ7",
    "GTEX-1117F-0426-SM-5EGHI",
    "GTEX-111CU-1826-SM-5GZYN",
    "GTEX-WXYG-0005-SM-3NB37",
]
MATRIX = "\n".join(
    [
        "#1.2",
        "6\t4",
        "\t".join(["Name", "Description", *SAMPLES]),
        "ENSG00000223972.5\tDDX11L1\t0\t0\t0.02\t1",
        "ENSG00000186092.4\tOR4F5\t8.764\t3.861\t0\t12.5",
        "ENSG00000205755.11\tCRLF2\t1\t2\t3\t4",
        "ENSG00000205755.11_PAR_Y\tCRLF2\t0\t0\t0\t0",
        "ENSG00000167578.16\tRAB4B\t26400\t0.5\t7\t0",
        "ENSG00000171466.9\tRAB4B\t5\t6\t7\t8",
        "",
    ]
)
TABLE = "\n".join(
    [
        "SAMPID\tSMATSSCR\tSMCENTER\tSMPTHNTS\tSMRIN\tSMTS\tSMTSD\tSMUBRID\tSMAFRZE",
        # the pathology note opens a quotation mark and never closes it
        'GTEX-1117F-0003-SM-58Q7G\t\tB1\t"2 pieces, fibrous\t\tBlood\tWhole Blood\t0013756\tWES',
        'GTEX-1117F-0226-SM-5GZZ7\t0\tB1\t2 pieces, 15" vessel\t6.8\tAdipose Tissue\tAdipose - Subcutaneous\t0\tRNASEQ',
        "GTEX-1117F-0426-SM-5EGHI\t0\tB1\t2 pieces\t7.1\tMuscle\tMuscle - Skeletal\t11907\tRNASEQ",
        "GTEX-111CU-1826-SM-5GZYN\t1\tB1\t6 pieces\t6.6\tAdipose Tissue\tAdipose - Visceral (Omentum)\t10414\tRNASEQ",
        "GTEX-WXYG-0005-SM-3NB37\t\tB1\t\t8\tBlood\tWhole Blood\t0013756\tRNASEQ",
        "GTEX-WXYG-0006-SM-3NB38\t\tB1\t\t\tBlood\tWhole Blood\t0013756\t",
        "",
    ]
)
DONORS = "SUBJID\tSEX\tAGE\tDTHHRDY\nGTEX-1117F\t2\t60-69\t4\nGTEX-111CU\t1\t50-59\t0\nGTEX-WXYG\t1\t20-29\t\n"


def gtf(*genes: str) -> str:
    return "".join(
        f'chr1\tHAVANA\tgene\t1\t9\t.\t+\t.\tgene_id "{gene}"; gene_type "{kind}"; gene_name "N";\n'
        for gene, _, kind in (gene.partition(" ") for gene in genes)
    )


GENES = gtf(
    "ENSG00000223972.5 lncRNA",
    "ENSG00000186092.4 protein_coding",
    "ENSG00000205755.11 protein_coding",
    "ENSG00000205755.11_PAR_Y protein_coding",
    "ENSG00000167578.16 protein_coding",
    "ENSG00000171466.9 protein_coding",
)


def write(folder: Path, **texts: str) -> None:
    """Write or overwrite files of a release: the matrix under any name, the others under their published ones."""
    names = {"attributes": ATTRIBUTES, "phenotypes": PHENOTYPES, "model": MODEL, "matrix": V8}
    for what, text in texts.items():
        path = folder / names[what]
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def read(path: Path, **options):
    return read_gtex(path, GTExOptions(**options))


@pytest.fixture
def release(tmp_path):
    write(tmp_path, matrix=MATRIX, attributes=TABLE, phenotypes=DONORS, model=GENES)
    return tmp_path


def test_a_release_becomes_linear_profiles_of_coding_genes_with_their_covariates(release, caplog):
    with caplog.at_level(logging.INFO):
        cohort = read(release)
    assert list(cohort.obs_names) == SAMPLES
    assert list(cohort.var_names) == ["ENSG00000186092", "ENSG00000205755", "ENSG00000167578", "ENSG00000171466"]
    np.testing.assert_array_equal(cohort.X[:, 0], np.float32([8.764, 3.861, 0, 12.5]))
    np.testing.assert_array_equal(cohort.X[0], np.float32([8.764, 1, 26400, 5]))
    assert cohort.uns["unit"] == "TPM"
    assert cohort.obs.to_dict("list") == {
        "tissue": ["Adipose Tissue", "Muscle", "Adipose Tissue", "Blood"],
        "SMTS": ["Adipose Tissue", "Muscle", "Adipose Tissue", "Blood"],
        "SMTSD": ["Adipose - Subcutaneous", "Muscle - Skeletal", "Adipose - Visceral (Omentum)", "Whole Blood"],
        "donor": ["GTEX-1117F", "GTEX-1117F", "GTEX-111CU", "GTEX-WXYG"],
        "study": ["GTEX"] * 4,
        "sample_type": ["normal"] * 4,
        "sex": ["female", "female", "male", "male"],
        "age_bracket": ["60-69", "60-69", "50-59", "20-29"],
    }
    # symbols repeat, ids do not
    assert cohort.var["symbol"].tolist() == ["OR4F5", "CRLF2", "RAB4B", "RAB4B"]
    assert cohort.var["ensembl_id"].tolist() == list(cohort.var_names)
    assert "1 Y copies of pseudoautosomal genes (_PAR_Y), such as ENSG00000205755.11_PAR_Y" in caplog.text


def test_every_gene_needs_no_gene_model_and_still_no_copies_on_y(release):
    (release / MODEL).unlink()
    assert read(release, genes="all").n_vars == 5
    with pytest.raises(
        FileNotFoundError, match=r"lacks a gene model gencode\.\*\.gtf \(or set `genes: all`\).*gtexportal"
    ):
        read(release)


def test_the_tissue_is_the_column_that_is_named(release):
    raw = read(release)
    for column in ("SMTS", "SMTSD"):
        assert label_samples(raw, IngestionOptions(label=column)).obs["tissue"].tolist() == raw.obs[column].tolist()
    with pytest.raises(ValueError, match=r"no column 'SMTX' for the class label but \['tissue', 'SMTS', 'SMTSD'"):
        label_samples(raw, IngestionOptions(label="SMTX"))
    with pytest.raises(ValidationError, match=r"a reader takes no `tissue`.*ingestion: \{label: SMTSD\}"):
        read(release, tissue="SMTSD")
    with pytest.raises(ValidationError, match="tisue"):
        read(release, tisue="SMTS")


@pytest.mark.parametrize("name", [V10, V10_PLAIN, V11])
def test_other_releases_are_known_by_the_pattern_of_their_names(release, name):
    expected = read(release)
    (release / V8).unlink()
    (release / name).write_bytes(gzip.compress(MATRIX.encode()) if name.endswith("gz") else MATRIX.encode())
    np.testing.assert_array_equal(read(release).X, expected.X)


def test_reads_laser_capture_and_half_fetched_files_beside_the_matrix_are_left_alone(release):
    for name in (READS, LCM, V10 + ".part", "gene_tpm.parquet"):
        (release / name).write_bytes(b"not read")
    assert read(release).n_obs == 4


def test_the_matrix_of_reads_is_that_of_counts(release):
    (release / READS).write_bytes((release / V8).read_bytes())
    for cohort in (read(release, values="counts"), read(release / READS)):
        assert cohort.uns["unit"] == "counts"
        np.testing.assert_array_equal(cohort.X, read(release).X)
    (release / READS).unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks a matrix \*gene_reads\*\.gct\.gz"):
        read(release, values="counts")


def test_two_releases_in_a_folder_ask_which_one_is_meant(release):
    write(release, matrix=MATRIX)
    (release / V10).write_bytes((release / V8).read_bytes())
    with pytest.raises(ValueError, match=f"several files for `filepath`: {V8}, {V10}. Set `filepath`"):
        read(release)
    assert read(release / V10).n_obs == 4
    second = ATTRIBUTES.replace("v8", "v10")
    (release / second).write_text(TABLE.replace("Whole Blood", "Blood!"))
    with pytest.raises(ValueError, match="several files for `attributes`"):
        read(release / V10)
    assert read(release / V10, attributes=second).obs["SMTSD"].tolist()[-1] == "Blood!"
    with pytest.raises(FileNotFoundError, match=r"gone\.txt, set as `attributes`"):
        read(release / V10, attributes="gone.txt")


@pytest.mark.parametrize("name", [V8, ATTRIBUTES, PHENOTYPES])
def test_a_missing_file_is_named_with_where_it_is_published(release, name):
    (release / name).unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks .*gtexportal\.org"):
        read(release)
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist.*gtexportal\.org.*filepath"):
        read(release / "nowhere")


def test_only_samples_with_rna_seq_and_a_tissue_are_read(release):
    rows = TABLE.replace("11907\tRNASEQ", "11907\tEXCLUDE").replace("8\tBlood\tWhole", "8\t\tWhole")
    write(release, attributes=rows)
    assert list(label_samples(read(release), IngestionOptions()).obs_names) == [SAMPLES[0], SAMPLES[2]]
    write(release, attributes=TABLE.replace("RNASEQ", "WGS"))
    with pytest.raises(ValueError, match="lists no sample with SMAFRZE RNASEQ"):
        read(release)
    write(release, attributes=TABLE.replace("SM-", "XX-"))
    with pytest.raises(ValueError, match=r"none of the 4 samples of .*GTEX-1117F-0226-SM-5GZZ7.*sample table"):
        read(release)
    write(release, attributes=TABLE + TABLE.splitlines()[2] + "\n")
    with pytest.raises(ValueError, match="lists 'GTEX-1117F-0226-SM-5GZZ7' more than once"):
        read(release)


def test_samples_that_the_attributes_lack_are_counted_in_a_warning(release, caplog):
    """As when the table of text was cut off."""
    assert not caplog.records
    write(release, attributes=TABLE[: TABLE.index("GTEX-WXYG-0005")])
    with caplog.at_level(logging.WARNING):
        assert list(read(release).obs_names) == SAMPLES[:3]
    assert "Left out 1 of 4 samples without a row with SMAFRZE RNASEQ" in caplog.text
    assert "GTEX-WXYG-0005-SM-3NB37" in caplog.text


def test_donors_that_the_phenotypes_lack_are_unknown_and_named(release, caplog):
    write(release, phenotypes=DONORS.replace("GTEX-WXYG", "GTEX-OTHER").replace("\t1\t50-59", "\t\t"))
    with caplog.at_level(logging.WARNING):
        obs = read(release).obs
    assert "1 donors have no row in the phenotypes: GTEX-WXYG" in caplog.text
    assert obs["sex"].tolist() == ["female", "female", "unknown", "unknown"]
    assert obs["age_bracket"].tolist() == ["60-69", "60-69", "unknown", "unknown"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("#1.2", "#1.3", "not GCT 1.2.*'#1.3'"),
        ("6\t4", "7\t4", "announces 7 genes, but has 6"),
        ("3.861", "-3.861", "line 5: .*at least 0 for gene ENSG00000186092.4, sample GTEX-1117F-0426.*'-3.861'"),
        ("3.861", "NA", "line 5: .*found 'NA'"),
        ("GTEX-1117F-0426-SM-5EGHI", "GTEX-1117F-0226-SM-5GZZ7", "have several columns: GTEX-1117F-0226"),
        ("ENSG", "RGD", "none of the 6 genes .*the first is 'RGD00000223972.5'.*gene table"),
    ],
)
def test_a_broken_matrix_is_refused(release, old, new, message):
    write(release, matrix=MATRIX.replace(old, new))
    with pytest.raises(ValueError, match=message):
        read(release)


def test_two_versions_of_one_gene_are_ambiguous_and_dropped(release, caplog):
    write(release, matrix=MATRIX.replace("ENSG00000171466.9", "ENSG00000186092.5"))
    with caplog.at_level(logging.WARNING):
        assert list(read(release).var_names) == ["ENSG00000205755", "ENSG00000167578"]
    assert "identifiers repeat" in caplog.text


def test_a_cohort_is_prepared_split_by_donor_and_matched_to_the_panel(tmp_path):
    """A hundred donors with two tissues each, and a rare third tissue that ingestion drops."""
    panel = load_panel()["ensembl_id"]
    rng = np.random.default_rng(0)
    donors = [f"GTEX-{1000 + i}" for i in range(100)]
    tissues = ["Lung"] * 100 + ["Liver"] * 100 + ["Bladder"] * 20
    samples = [f"{donors[i % 100]}-{i:04d}-SM-{i:05d}" for i in range(220)]
    values = np.exp2(rng.normal(3, 2, (len(panel), 220)))
    rows = [f"{gene}.7\tS\t" + "\t".join(f"{x:.4g}" for x in row) for gene, row in zip(panel, values, strict=True)]
    write(
        tmp_path,
        matrix="\n".join([f"#1.2\n{len(panel)}\t220", "\t".join(["Name", "Description", *samples]), *rows]) + "\n",
        attributes="SAMPID\tSMTS\tSMTSD\tSMAFRZE\n"
        + "".join(f"{s}\t{t}\t{t}\tRNASEQ\n" for s, t in zip(samples, tissues, strict=True)),
        phenotypes="SUBJID\tSEX\tAGE\tDTHHRDY\n" + "".join(f"{donor}\t1\t20-29\t0\n" for donor in donors),
        model=gtf(*(f"{gene}.7 protein_coding" for gene in panel)),
    )
    cohort = prepare_cohort(read(tmp_path), IngestionOptions(min_samples_per_tissue=100))
    assert cohort.shape == (200, 978)
    assert not cohort.is_view
    assert cohort.uns["unit"] == "log2(TPM + 1)"
    place = list(cohort.var_names).index(panel[5])
    np.testing.assert_allclose(cohort.X[:, place], np.log2(values[5, :200] + 1), atol=1e-3)
    table, summary = split_samples(cohort, SplitOptions())
    train, validation, test, panel_table = filter_genes(cohort, table, load_panel(), IngestionOptions())
    assert summary.set_index(["tissue", "split"])["samples"]["all"].to_dict() == {
        "train": train.n_obs,
        "validation": validation.n_obs,
        "test": test.n_obs,
    }
    assert not set(train.obs["donor"]) & set(test.obs["donor"])
    assert train.n_obs + validation.n_obs + test.n_obs == 200
    assert panel_table["matched_by"].eq("ensembl_id").all()
    assert all(part.var["is_landmark"].all() for part in (train, validation, test))
