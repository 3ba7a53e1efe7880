"""Real files as people have them, where they are there: values against those that stand in the file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from transcriptome_diffusion.cohorts.options import ToilOptions
from transcriptome_diffusion.cohorts.readers import read_cohort
from transcriptome_diffusion.cohorts.toil import _read_phenotype
from transcriptome_diffusion.expression.landmarks import load_panel, match_panel
from transcriptome_diffusion.expression.options import IngestionOptions
from transcriptome_diffusion.pipelines.ingestion.nodes import prepare_cohort

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def public():
    """$PUBLIC_FILES_DIR, or ``data/public_files`` in a folder beside the checkout."""
    candidates = [*sorted(PROJECT.parent.glob("*/data/public_files"))]
    if "PUBLIC_FILES_DIR" in os.environ:
        candidates.insert(0, Path(os.environ["PUBLIC_FILES_DIR"]))
    for folder in candidates:
        if folder.is_dir():
            return folder
    pytest.skip("SKIPPED FOR LACK OF DATA: no folder data/public_files; set PUBLIC_FILES_DIR to it")


def test_a_count_matrix_with_a_column_of_widths_and_a_table_of_r(public):
    options = {"samples": "SRP029880.colData.tsv", "columns": {"tissue": "group"}, "unit": "counts"}
    cohort = read_cohort("own", public / "counts" / "SRP029880.raw_counts.tsv", options)
    assert cohort.n_obs == 10
    assert cohort["CASE_1", "TSPAN6"].X.item() == 776426
    assert cohort.var.at["TSPAN6", "length"] == 12883
    assert set(cohort.obs["tissue"]) == {"CASE", "CTRL"}
    prepared = prepare_cohort(cohort, IngestionOptions(min_samples_per_tissue=5, normalise="tpm"))
    np.testing.assert_allclose((np.exp2(prepared.X.astype(float)) - 1).sum(axis=1), 1e6, rtol=1e-4)
    assert match_panel(cohort.var, load_panel())["found"].mean() > 0.99


def test_read_counts_of_gtex_v6_with_its_old_words(public):
    options = {"values": "counts", "genes": "all", "phenotypes": "SubjectPhenotypesDS.txt"}
    cohort = read_cohort("gtex", public / "gtex_v6", options)
    assert cohort.n_obs == 11
    assert cohort.uns["unit"] == "counts"
    assert set(cohort.obs["SMTS"]) == {"Bladder"}
    assert set(cohort.obs["sex"]) == {"male", "female"}
    assert prepare_cohort(cohort, IngestionOptions(min_samples_per_tissue=5)).uns["unit"] == "log2(CPM + 1)"


def test_a_folder_of_htseq_counts_with_a_table_of_files(public):
    columns = {"sample": "sample", "donor": "case", "tissue": "sample_type"}
    options = {"samples": "samples.csv", "columns": columns, "unit": "counts"}
    cohort = read_cohort("own", public / "htseq_gbm", options)
    assert cohort.n_obs == 30
    assert cohort["TCGA-06-0238-01A", "ENSG00000000003"].X.item() == 4782
    assert not cohort.var_names.str.startswith("__").any()
    assert match_panel(cohort.var, load_panel())["found"].all()


@pytest.mark.parametrize("unit", ["TPM", "counts"])
def test_salmon_kallisto_and_rsem_agree_on_one_library(public, unit):
    options = {
        "samples": "samples.txt",
        "columns": {"sample": "run", "tissue": "pop"},
        "unit": unit,
        "tx2gene": "tx2gene.csv.gz",
    }
    found = {name: read_cohort("own", public / "quant" / name, options) for name in ("salmon", "kallisto", "rsem")}
    assert found["rsem"]["ERR188088", "A1BG"].X.item() == pytest.approx({"TPM": 12.74, "counts": 278.03}[unit])
    genes = found["rsem"].var_names.intersection(found["salmon"].var_names).intersection(found["kallisto"].var_names)
    assert len(genes) > 20_000
    logs = {name: np.log2(cohort["ERR188088", genes].X[0] + 1) for name, cohort in found.items()}
    for name in ("salmon", "kallisto"):
        assert np.corrcoef(logs[name], logs["rsem"])[0, 1] > 0.95


def test_firehose_and_the_phenotypes_of_toil(public):
    cohort = read_cohort("tcga", public / "firehose", {})
    assert cohort.obs["cancer_type"].value_counts().to_dict() == {"ACC": 79, "CHOL": 45}
    assert match_panel(cohort.var, load_panel())["found"].all()
    sites = set(_read_phenotype(public / "toil" / "TcgaTargetGTEX_phenotype.txt.gz", ToilOptions())["_primary_site"])
    assert "Sympathetic Nervous System" in sites
    assert not {"Thyroid Gland", "Cervix Uteri"} & sites
