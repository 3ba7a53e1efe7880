"""A cohort of the user's own goes through the data pipelines as the README describes it."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from scipy import sparse

from transcriptome_diffusion.expression.landmarks import load_panel
from transcriptome_diffusion.parameters import IngestionOptions, LandmarkOptions, SplitOptions
from transcriptome_diffusion.pipelines import feature_landmarks, ingestion


def own_cohort(panel: pd.DataFrame) -> ad.AnnData:
    """Linear values, sparse and float64, with the columns the README asks for and no others."""
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {
            "tissue": np.repeat(["liver", "lung"], 40),
            "donor": [f"d{i % 30}" for i in range(80)],
            "study": "mine",
        },
        index=[f"s{i}" for i in range(80)],
    )
    var = panel[["symbol", "entrez_id", "ensembl_id"]].set_index("ensembl_id", drop=False).rename_axis(None)
    return ad.AnnData(sparse.csr_matrix(rng.gamma(2, 50, (80, len(var)))), obs=obs, var=var, uns={"unit": "TPM"})


def run(cohort: ad.AnnData, **ingestion_options):
    inputs = {
        "raw_cohort": cohort,
        "landmark_genes": load_panel(),
        "params:ingestion": IngestionOptions(**ingestion_options),
        "params:split": SplitOptions(seed=1),
        "params:landmarks": LandmarkOptions(),
    }
    catalog = DataCatalog({name: MemoryDataset(data) for name, data in inputs.items()})
    pipeline = ingestion.create_pipeline() + feature_landmarks.create_pipeline()
    return {name: dataset.load() for name, dataset in SequentialRunner().run(pipeline, catalog).items()}


def test_an_own_cohort_is_logged_split_and_cut_to_the_panel():
    panel = load_panel().iloc[:950]
    found = run(own_cohort(panel))
    train = found["landmarks_train"]
    assert train.shape[1] == 950
    assert train.uns["unit"] == "log2(TPM + 1)"
    assert train.X.dtype == np.float32
    assert train.var["is_landmark"].all()
    donors = [set(found[f"landmarks_{split}"].obs["donor"]) for split in ("train", "validation", "test")]
    assert not donors[0] & donors[1]
    assert not donors[0] & donors[2]
    assert found["cohort_summary"].query("tissue == 'all'")["samples"].sum() == 80


def test_too_small_a_panel_stops_the_run_before_landmarks_are_written():
    with pytest.raises(ValueError, match=r"800 of 978 landmark genes are measured, below min_coverage=0\.9"):
        run(own_cohort(load_panel().iloc[:800]))


def test_a_tissue_column_that_is_missing_is_named():
    cohort = own_cohort(load_panel())
    del cohort.obs["tissue"]
    with pytest.raises(ValueError, match="no column 'tissue'"):
        run(cohort)


def test_values_that_are_logarithms_already_are_refused():
    cohort = own_cohort(load_panel())
    cohort.uns["unit"] = "log2(TPM + 1)"
    with pytest.raises(ValueError, match="already in log2"):
        run(cohort)
