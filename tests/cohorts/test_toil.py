"""The Toil recompute, on small files in the published format."""

from __future__ import annotations

import gzip
import logging

import numpy as np
import pytest

from transcriptome_diffusion.cohorts.readers import read_cohort

ZERO = "-9.9658"
SAMPLES = {
    "TCGA-V4-A9EE-01": ("Uveal Melanoma", "Eye", "Primary Tumor", "Male", "TCGA"),
    "TCGA-BH-A0AU-11": ("Breast Invasive Carcinoma", "Breast", "Solid Tissue Normal", "Female", "TCGA"),
    "GTEX-145MG-3126-SM-5Q5D3": ("Brain - Cerebellum", "Brain", "Normal Tissue", "Male", "GTEX"),
    "GTEX-XYZ12-0001-SM-ABCDE": ("Cells - Leukemia Cell Line (Cml)", "Bone Marrow", "Cell Line", "", "GTEX"),
    "TARGET-20-PAEIKD-09": ("Acute Myeloid Leukemia", "White blood cell", "Primary Blood Derived", "", "TARGET"),
    "TCGA-AA-0000-01": ("Sjögren’s", "", "Primary Tumor", "Male", "TCGA"),
}
VALUES = {
    "ENSG00000223972.5": [ZERO, "3.3219", ZERO, "1", "2", "3"],
    "ENSG00000228572.7": ["0.0014", "10", ZERO, "1", "2", "3"],
    "ENSGR0000228572.7": [ZERO] * 6,
}


def gz(path, text, encoding="utf-8"):
    path.write_bytes(gzip.compress(text.encode(encoding)))


@pytest.fixture
def folder(tmp_path):
    lines = ["\t".join(["sample", *SAMPLES]), *("\t".join([gene, *row]) for gene, row in VALUES.items())]
    gz(tmp_path / "TcgaTargetGtex_rsem_gene_tpm.gz", "\n".join(lines) + "\n")
    header = "sample\tdetailed_category\tprimary disease or tissue\t_primary_site\t_sample_type\t_gender\t_study\n"
    rows = [
        "\t".join([name, detail, detail, site, kind, gender, study])
        for name, (detail, site, kind, gender, study) in SAMPLES.items()
    ]
    rows.append("\t".join(["TCGA-ZZ-ZZZZ-01", "x", "x", "Eye", "Primary Tumor", "Male", "TCGA"]))  # not in the matrix
    gz(tmp_path / "TcgaTargetGTEX_phenotype.txt.gz", header + "\n".join(rows) + "\n", "cp1252")
    return tmp_path


def test_the_logarithm_is_undone_and_an_unexpressed_gene_is_zero(folder):
    cohort = read_cohort("toil", folder)
    assert cohort.uns["unit"] == "TPM"
    gene = cohort[:, "ENSG00000223972"].X[:, 0]
    np.testing.assert_allclose(gene, [0, 9.999, 0, 3.999, 7.999], atol=1e-3)
    assert (gene >= 0).all()


def test_the_latin_phenotype_gives_studies_donors_and_types(folder):
    obs = read_cohort("toil", folder).obs
    assert obs["study"].tolist() == ["TCGA", "TCGA", "GTEX", "TARGET", "TCGA"]
    assert obs["sample_type"].tolist() == ["tumor", "normal", "normal", "tumor", "tumor"]
    assert obs["donor"].tolist() == ["TCGA-V4-A9EE", "TCGA-BH-A0AU", "GTEX-145MG", "TARGET-20-PAEIKD", "TCGA-AA-0000"]
    assert obs["tissue"].tolist() == ["Eye", "Breast", "Brain", "White blood cell", ""]
    assert obs["sex"].tolist() == ["male", "female", "male", "unknown", "male"]


def test_the_y_copy_in_the_spelling_of_gencode_23_is_dropped_by_name(folder, caplog):
    with caplog.at_level(logging.WARNING):
        assert list(read_cohort("toil", folder).var_names) == ["ENSG00000223972", "ENSG00000228572"]
    assert "ENSGR0000228572.7" in caplog.text


def test_studies_sample_types_and_the_tissue_column_are_choices(folder):
    assert set(read_cohort("toil", folder, {"studies": ["GTEX"]}).obs["study"]) == {"GTEX"}
    lines = read_cohort("toil", folder, {"sample_types": ["cell_line"]}).obs
    assert list(lines.index) == ["GTEX-XYZ12-0001-SM-ABCDE"]
    obs = read_cohort("toil", folder, {"studies": ["TCGA"]}).obs
    assert obs["_primary_site"].tolist() == obs["tissue"].tolist()
    detailed = obs["detailed_category"]
    assert "Sjögren’s".encode("cp1252").decode("latin-1") in set(detailed)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("Blood Derived Normal", "normal"), ("Metastatic", "tumor"), ("Control Analyte", None), ("", None)],
)
def test_no_sample_is_a_tumour_for_want_of_a_type(folder, kind, expected):
    path = folder / "TcgaTargetGTEX_phenotype.txt.gz"
    text = gzip.decompress(path.read_bytes()).decode("latin-1")
    gz(path, text.replace("Primary Blood Derived", kind), "latin-1")
    assert read_cohort("toil", folder).obs["sample_type"].get("TARGET-20-PAEIKD-09") == expected


def test_underscores_that_r_has_rewritten_are_read_as_well(folder):
    path = folder / "TcgaTargetGTEX_phenotype.txt.gz"
    text = gzip.decompress(path.read_bytes()).decode("latin-1").replace("\t_", "\tX_")
    gz(path, text, "latin-1")
    assert read_cohort("toil", folder).n_obs == 5


def test_symbols_come_from_the_probe_map_and_coding_genes_from_a_gene_model(folder):
    (folder / "gencode.v23.annotation.gene.probemap").write_text(
        "id\tgene\tchrom\tchromStart\tchromEnd\tstrand\nENSG00000223972.5\tDDX11L1\tchr1\t11869\t14409\t+\n"
    )
    assert read_cohort("toil", folder).var["symbol"].tolist() == ["DDX11L1", ""]
    with pytest.raises(FileNotFoundError, match=r"needs one gene model.*set `genes: all`"):
        read_cohort("toil", folder, {"genes": "coding"})
    (folder / "gencode.v23.annotation.gtf").write_text(
        'chr1\tHAVANA\tgene\t1\t2\t.\t+\t.\tgene_id "ENSG00000228572.9"; gene_type "protein_coding"; gene_name "X";\n'
        'chr1\tHAVANA\tgene\t1\t2\t.\t+\t.\tgene_id "ENSG00000223972.5"; gene_type "pseudogene"; gene_name "D";\n'
    )
    assert list(read_cohort("toil", folder, {"genes": "coding"}).var_names) == ["ENSG00000228572"]


def test_another_matrix_than_that_of_tpm_is_refused(folder):
    path = folder / "TcgaTargetGtex_rsem_gene_tpm.gz"
    gz(path, gzip.decompress(path.read_bytes()).decode().replace(ZERO, "0"))
    with pytest.raises(ValueError, match=r"is not log2\(TPM \+ 0\.001\): its lowest value is 0"):
        read_cohort("toil", folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tissue": "site"}, r"a reader takes no `tissue`.*ingestion: \{label: site\}"),
        ({"studies": ["TARGET"], "sample_types": ["normal"]}, "no sample of .* is left: of 7, 1 of TARGET, 2 normal"),
    ],
)
def test_options_that_leave_nothing_are_named(folder, options, message):
    with pytest.raises(ValueError, match=message):
        read_cohort("toil", folder, options)


@pytest.mark.parametrize("name", ["TcgaTargetGtex_rsem_gene_tpm", "TcgaTargetGTEX_phenotype.txt"])
def test_a_missing_file_is_named_with_its_address(folder, name):
    (folder / f"{name}.gz").unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name} is not in .*toil\.xenahubs\.net"):
        read_cohort("toil", folder)


def test_two_names_of_an_organ_are_one_and_a_broken_blank_is_a_blank(folder):
    path = folder / "TcgaTargetGTEX_phenotype.txt.gz"
    text = gzip.decompress(path.read_bytes()).decode("latin-1")
    text = text.replace("\tEye\t", "\tThyroid Gland\t").replace("\tBrain\t", "\tThyroid\t")
    gz(path, text.replace("\tBreast\t", "\tSympathetic\xcaNervous System\t"), "latin-1")
    found = read_cohort("toil", folder).obs["tissue"].tolist()
    assert found == ["Thyroid", "Sympathetic Nervous System", "Thyroid", "White blood cell", ""]
