"""TCGA in its three packagings, on small files in the published formats."""

from __future__ import annotations

import gzip
import logging

import numpy as np
import pytest
from kedro.config import OmegaConfigLoader

from transcriptome_diffusion import settings
from transcriptome_diffusion.cohorts.readers import read_cohort
from transcriptome_diffusion.cohorts.tcga import DISEASES

GDC = "EBPlusPlusAdjustPANCAN_IlluminaHiSeq_RNASeqV2.geneExp.tsv"
XENA = "EB++AdjustPANCAN_IlluminaHiSeq_RNASeqV2.geneExp.xena.gz"
FIREHOSE = "{}.rnaseqv2__illuminahiseq_rnaseqv2__unc_edu__Level_3__RSEM_genes_normalized__data.data.txt"
TUMOUR, NORMAL, LEUKAEMIA, MELANOMA = (
    "TCGA-OR-A5J1-01A-11R-A29S-07",
    "TCGA-BH-A0AU-11A-11R-A12P-07",
    "TCGA-AB-2803-03A-01T-0734-13",
    "TCGA-D3-A1QA-06A-11R-A18T-07",
)
GENES = ["?|100130426", "SLC35E2|728661", "SLC35E2|9906", "A1BG|1"]


def table(path, header, *rows, separator="\t"):
    text = "\n".join(separator.join(map(str, row)) for row in [header, *rows]) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def quality(folder, *rows):
    """Rows of (aliquot, cancer type, Do_not_use)."""
    header = ["patient_barcode", "aliquot_barcode", "cancer type", "platform", "patient_annotation", "Do_not_use"]
    full = [(aliquot[:12], aliquot, cancer, "IlluminaHiSeq_RNASeqV2", "", flag) for aliquot, cancer, flag in rows]
    table(folder / "merged_sample_quality_annotations.tsv", header, *full)


def write_gdc(folder, samples, rows):
    table(folder / GDC, ["gene_id", *samples], *[[gene, *row] for gene, row in zip(GENES, rows, strict=True)])


@pytest.fixture
def gdc(tmp_path):
    samples = [TUMOUR, NORMAL, LEUKAEMIA, MELANOMA]
    rows = [[0.0, 5, 6, 7], [1, 2, 3, 4], ["NA", 2.5, 3, "NA"], [100.5, -3.25, 0, 70]]
    write_gdc(tmp_path, samples, rows)
    quality(
        tmp_path, (TUMOUR, "ACC", "False"), (NORMAL, "BRCA", "False"), (LEUKAEMIA, "LAML", ""), (MELANOMA, "SKCM", "0")
    )
    return tmp_path


class TestGDC:
    def test_values_are_linear_clipped_and_keep_their_gaps(self, gdc, caplog):
        with caplog.at_level(logging.INFO):
            cohort = read_cohort("tcga", gdc)
        assert cohort.uns["unit"] == "RSEM"
        assert list(cohort.var_names) == GENES
        assert cohort[TUMOUR, "A1BG|1"].X.item() == 100.5
        assert cohort[NORMAL, "A1BG|1"].X.item() == 0
        assert np.isnan(cohort[:, "SLC35E2|9906"].X[:, 0]).tolist() == [True, False, False, True]
        assert "4 genes of which 1 miss a value; 1 negative values, `negative: zero`" in caplog.text

    def test_negative_values_stay_on_demand(self, gdc):
        kept = read_cohort("tcga", gdc, {"negative": "keep"})
        assert kept[NORMAL, "A1BG|1"].X.item() < 0
        assert kept.uns["negative"] == "keep"
        assert "negative" not in read_cohort("tcga", gdc, {"negative": "refuse"}).uns

    def test_symbol_and_entrez_id_are_taken_apart(self, gdc):
        var = read_cohort("tcga", gdc).var
        assert var["entrez_id"].tolist() == ["100130426", "728661", "9906", "1"]
        assert var["symbol"].tolist() == ["", "SLC35E2", "SLC35E2", "A1BG"]

    def test_leukaemia_and_melanoma_are_tumours_too(self, gdc):
        obs = read_cohort("tcga", gdc).obs
        assert obs["sample_type"].tolist() == ["tumor", "normal", "tumor", "tumor"]
        assert obs["cancer_type"].tolist() == obs["tissue"].tolist() == ["ACC", "BRCA", "LAML", "SKCM"]
        assert obs["donor"].tolist() == ["TCGA-OR-A5J1", "TCGA-BH-A0AU", "TCGA-AB-2803", "TCGA-D3-A1QA"]
        assert set(obs["study"]) == {"TCGA"}

    def test_sample_types_are_a_choice(self, gdc):
        assert list(read_cohort("tcga", gdc, {"sample_types": ["normal"]}).obs_names) == [NORMAL]

    def test_samples_marked_do_not_use_are_left_out_unless_wanted(self, gdc, caplog):
        quality(gdc, (TUMOUR, "ACC", "True"), (NORMAL, "BRCA", "False"))
        with caplog.at_level(logging.INFO):
            assert list(read_cohort("tcga", gdc).obs_names) == [NORMAL]
        assert f"1 marked Do_not_use ({TUMOUR})" in caplog.text
        assert "2 without a cancer type" in caplog.text
        assert list(read_cohort("tcga", gdc, {"do_not_use": "keep"}).obs_names) == [TUMOUR, NORMAL]

    def test_one_aliquot_of_a_sample_is_read(self, gdc, caplog):
        later = TUMOUR.replace("A29S", "A30S")
        write_gdc(gdc, [later, TUMOUR, NORMAL], [[1, 10, 0]] * 4)
        with caplog.at_level(logging.INFO):
            cohort = read_cohort("tcga", gdc)
        assert list(cohort.obs_names) == [later, NORMAL]
        assert cohort.X[:, 0].tolist() == [1, 0]
        assert "Of the aliquots of 1 samples one each was kept: TCGA-OR-A5J1-01" in caplog.text

    def test_the_quality_table_is_asked_for_with_its_address(self, gdc):
        (gdc / "merged_sample_quality_annotations.tsv").unlink()
        with pytest.raises(FileNotFoundError, match=r"merged_sample_quality.*api\.gdc\.cancer\.gov"):
            read_cohort("tcga", gdc)

    def test_a_row_without_a_cancer_type_leaves_that_of_the_patients_other_rows(self, gdc):
        quality(gdc, (TUMOUR, "ACC", "False"), (TUMOUR, "", "False"))
        assert read_cohort("tcga", gdc).obs["cancer_type"].tolist() == ["ACC"]

    def test_tables_of_another_cohort_are_an_error_that_says_why_nothing_is_left(self, gdc):
        quality(gdc, ("TCGA-XX-XXXX-01A-11R-A29S-07", "ACC", "False"))
        with pytest.raises(ValueError, match=r"no sample of EBPlus.* is left: 4 without a cancer type"):
            read_cohort("tcga", gdc)


class TestXena:
    @pytest.fixture
    def folder(self, tmp_path):
        samples = ["TCGA-D3-A1QA-06", "TCGA-21-1076-01", "TCGA-21-1076-01", "TCGA-BH-A0AU-11"]
        table(
            tmp_path / XENA,
            ["sample", *samples],
            ["100130426", 0, 1, 2, 3],
            ["SLC35E2", 1, 1, 1, 1],
            ["A1BG", 10, 3, 4, -6.83],
            ["SLC35E2", 1, 1, 1, 1],
            ["TP53", "", 1, 1, "NA"],
        )
        table(
            tmp_path / "TCGA_phenotype_denseDataOnlyDownload.tsv.gz",
            ["sample", "sample_type_id", "sample_type", "_primary_disease"],
            ["TCGA-D3-A1QA-06", 6, "Metastatic", "skin cutaneous melanoma"],
            ["TCGA-21-1076-01", 1, "Primary Tumor", "lung squamous cell carcinoma"],
            ["TCGA-BH-A0AU-11", "", "", "breast invasive carcinoma"],
            ["TCGA-BH-A0AU-10", "", "", ""],
        )
        return tmp_path

    def test_the_logarithm_is_undone_and_of_a_repeated_column_the_first_is_read(self, folder):
        cohort = read_cohort("tcga", folder)
        assert cohort.uns["unit"] == "RSEM"
        assert list(cohort.obs_names) == ["TCGA-D3-A1QA-06", "TCGA-21-1076-01", "TCGA-BH-A0AU-11"]
        np.testing.assert_allclose(cohort[:, "A1BG"].X[:, 0], [1023, 7, 0], rtol=1e-5)
        assert np.isnan(cohort[:, "TP53"].X[:, 0]).tolist() == [True, False, True]

    def test_nameless_genes_keep_their_entrez_id_and_the_ambiguous_symbol_goes_by_name(self, folder, caplog):
        with caplog.at_level(logging.WARNING):
            var = read_cohort("tcga", folder).var
        assert list(var.index) == ["100130426", "A1BG", "TP53"]
        assert var["entrez_id"].tolist() == ["100130426", "", ""]
        assert var["symbol"].tolist() == ["", "A1BG", "TP53"]
        assert "SLC35E2" in caplog.text

    def test_diseases_become_abbreviations(self, folder):
        assert read_cohort("tcga", folder).obs["cancer_type"].tolist() == ["SKCM", "LUSC", "BRCA"]
        assert len(set(DISEASES.values())) == 33

    def test_either_spelling_of_the_plus_signs_is_found(self, folder):
        (folder / XENA).rename(folder / XENA.replace("++", "%2B%2B"))
        assert read_cohort("tcga", folder).n_obs == 3

    def test_the_survival_table_brings_types_sex_and_age(self, folder):
        table(
            folder / "Survival_SupplementalTable_S1_20171025_xena_sp",
            ["sample", "_PATIENT", "cancer type abbreviation", "age_at_initial_pathologic_diagnosis", "gender"],
            ["TCGA-D3-A1QA-06", "TCGA-D3-A1QA", "SKCM", 57, "MALE"],
            ["TCGA-21-1076-01", "TCGA-21-1076", "LUSC", "", "FEMALE"],
        )
        obs = read_cohort("tcga", folder).obs
        # the third is in the phenotype table alone
        assert obs["cancer_type"].tolist() == ["SKCM", "LUSC", "BRCA"]
        assert obs["sex"].tolist() == ["male", "female", "unknown"]
        assert obs["age"].iloc[0] == 57
        assert np.isnan(obs["age"].iloc[1:]).all()
        (folder / "TCGA_phenotype_denseDataOnlyDownload.tsv.gz").unlink()
        assert read_cohort("tcga", folder).n_obs == 2

    def test_samples_are_marked_do_not_use_by_aliquot(self, folder, caplog):
        quality(folder, ("TCGA-D3-A1QA-06A-11R-A18T-07", "SKCM", "True"))
        with caplog.at_level(logging.INFO):
            assert list(read_cohort("tcga", folder).obs_names) == ["TCGA-21-1076-01", "TCGA-BH-A0AU-11"]
        assert "1 marked Do_not_use (TCGA-D3-A1QA-06)" in caplog.text

    def test_an_unknown_disease_says_where_abbreviations_are(self, folder):
        table(
            folder / "TCGA_phenotype_denseDataOnlyDownload.tsv.gz",
            ["sample", "_primary_disease"],
            ["TCGA-D3-A1QA-06", "melanoma of the moon"],
        )
        with pytest.raises(ValueError, match=r"melanoma of the moon.*Survival_SupplementalTable"):
            read_cohort("tcga", folder)


class TestFirehose:
    @pytest.fixture
    def folder(self, tmp_path):
        def write(cohort, samples, rows):
            path = tmp_path / f"gdac.broadinstitute.org_{cohort}.Merge_rnaseqv2__x" / FIREHOSE.format(cohort)
            table(
                path,
                ["Hybridization REF", *samples],
                ["gene_id", *["normalized_count"] * len(samples)],
                *[[gene, *row] for gene, row in zip(GENES, rows, strict=True)],
            )

        write("STAD", ["TCGA-B7-5816-01A-21R-1602-13"], [["0.0000"], [1], [2], [16.3305]])
        write("ACC", [TUMOUR], [[5], [6], ["NA"], [8]])
        write("STES", ["TCGA-B7-5816-01A-21R-1602-13"], [[0], [1], [2], [16.3305]])
        return tmp_path

    def test_cohorts_are_stacked_without_their_second_header_and_without_unions(self, folder, caplog):
        with caplog.at_level(logging.INFO):
            cohort = read_cohort("tcga", folder)
        assert cohort.obs["cancer_type"].tolist() == ["ACC", "STAD"]
        assert cohort.X[:, [0, 1, 3]].tolist() == [[5, 6, 8], [0, 1, pytest.approx(16.3305)]]
        assert np.isnan(cohort.X[0, 2])
        assert cohort.var["entrez_id"].tolist() == ["100130426", "728661", "9906", "1"]
        assert "Left alone, since their members are there: STES" in caplog.text
        assert "so that their samples are not read: ESCA" in caplog.text

    def test_a_cohort_without_a_wanted_sample_is_passed_over_and_none_at_all_is_an_error(self, folder):
        quality(folder, (TUMOUR, "ACC", "True"))
        assert read_cohort("tcga", folder).obs["cancer_type"].tolist() == ["STAD"]
        with pytest.raises(ValueError, match=r"is left: 1 not normal"):
            read_cohort("tcga", folder, {"sample_types": ["normal"]})

    def test_files_of_two_releases_are_refused(self, folder):
        path = next(folder.rglob("ACC.*"))
        path.write_text(path.read_text().replace("A1BG|1", "A1BG|2"))
        with pytest.raises(ValueError, match="one release"):
            read_cohort("tcga", folder)


def test_two_packagings_in_one_folder_have_to_be_told_apart(gdc):
    table(gdc / XENA, ["sample", "TCGA-D3-A1QA-06"], ["A1BG", 1])
    with pytest.raises(ValueError, match="holds gdc and xena matrices; set `packaging`"):
        read_cohort("tcga", gdc)
    assert read_cohort("tcga", gdc, {"packaging": "gdc"}).n_obs == 4


def test_an_empty_or_missing_folder_names_the_expected_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"EBPlusPlus.*Xena.*Firehose"):
        read_cohort("tcga", tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_cohort("tcga", tmp_path / "nowhere")


def test_classes_are_the_papers_or_the_cancer_types_by_a_parameter(project):
    def tissues(**runtime_params):
        config = OmegaConfigLoader(
            str(project / "conf"), env="tcga", runtime_params=runtime_params, **settings.CONFIG_LOADER_ARGS
        )
        return config["parameters"]["ingestion"]["tissues"]

    paper = tissues()
    assert len(set(paper.values())) == 24  # Lacan et al. (2026)
    assert set(paper) == {*DISEASES.values(), "STES"}
    assert tissues(classes="cancer_type") is None
