"""A cohort, written in any format, orientation, separator, kind of id and unit, comes back as the same cohort."""

from __future__ import annotations

import gzip

import anndata as ad
import numpy as np
import pandas as pd
import polars as pl
import pytest

from transcriptome_diffusion.cohorts.readers import read_cohort
from transcriptome_diffusion.expression.landmarks import load_panel, match_panel
from transcriptome_diffusion.expression.options import IngestionOptions
from transcriptome_diffusion.pipelines.ingestion.nodes import prepare_cohort

UNITS = {
    "TPM": lambda x: x,
    "log2(TPM + 1)": lambda x: np.log2(x + 1),
    "log2(TPM + 0.001)": lambda x: np.log2(x + 0.001),
    "ln(CPM + 1)": lambda x: np.log(x + 1),
    "log10(FPKM + 1)": lambda x: np.log10(x + 1),
    "counts": lambda x: np.rint(x),
}
IDS = {
    "ensembl": lambda panel, rng: [f"{gene}.{rng.integers(1, 20)}" for gene in panel["ensembl_id"]],
    "entrez": lambda panel, rng: panel["entrez_id"].tolist(),
    "symbol": lambda panel, rng: panel["symbol"].tolist(),
    "symbol|entrez": lambda panel, rng: (panel["symbol"] + "|" + panel["entrez_id"]).tolist(),
    "symbol (entrez)": lambda panel, rng: (panel["symbol"] + " (" + panel["entrez_id"] + ")").tolist(),
}
FORMATS = ["tsv", "csv", "semicolon", "tsv.gz", "parquet", "gct", "h5ad"]


def draw(rng):
    """Linear values (n_samples, n_genes) of one total, with zeros; sample names; the panel's rows of the genes."""
    samples, genes = int(rng.integers(3, 30)), int(rng.integers(20, 200))
    panel = load_panel().sample(genes, random_state=int(rng.integers(1 << 30))).reset_index(drop=True)
    panel = panel[panel["ensembl_id"] != ""]
    values = rng.gamma(0.3, 50, (samples, len(panel))) * (rng.random((samples, len(panel))) > 0.1)
    values[:, 0] += 1
    values *= 1e6 / values.sum(axis=1, keepdims=True)
    ends = ["", "-01", ".a", "_x", " b"]
    names = [f"{chr(65 + i % 26)}{i}{ends[rng.integers(len(ends))]}" for i in range(samples)]
    return values, names, panel


def write(path, table, kind, across):
    """Write a table of genes in rows; ``across``: genes in columns."""
    table = table.T if across else table
    table = table.rename_axis("id")
    if kind == "parquet":
        pl.DataFrame(table.reset_index().to_dict("list")).write_parquet(path)
    elif kind == "gct":
        text = table.rename_axis("Name").assign(Description="na")
        text = text[["Description", *table.columns]].to_csv(sep="\t")
        path.write_text(f"#1.2\n{table.shape[0]}\t{table.shape[1]}\n{text}")
    else:
        text = table.to_csv(sep={"csv": ",", "semicolon": ";"}.get(kind, "\t")).encode()
        path.write_bytes(gzip.compress(text) if kind.endswith("gz") else text)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("unit", UNITS)
def test_it_comes_back(tmp_path, kind, unit):
    ids = list(IDS)[(FORMATS.index(kind) + list(UNITS).index(unit)) % len(IDS)]  # all with all took too long
    rng = np.random.default_rng([FORMATS.index(kind), list(UNITS).index(unit), list(IDS).index(ids)])
    values, names, panel = draw(rng)
    written, genes = UNITS[unit](values), IDS[ids](panel, rng)
    order = rng.permutation(len(names))  # of the sample table
    donors = [f"d{i // 2}" for i in range(len(names))]
    obs = pd.DataFrame({"id": names, "organ": [f"organ {i % 3}" for i in range(len(names))], "who": donors})
    options = {"columns": {"sample": "id", "tissue": "organ", "donor": "who"}, "unit": unit}
    across = kind not in ("gct", "h5ad") and bool(rng.integers(2))
    path = tmp_path / f"matrix.{'csv' if kind == 'semicolon' else kind}"
    if kind == "h5ad":
        ad.AnnData(written, obs=obs.set_index("id", drop=False).rename_axis(None), var=pd.DataFrame(index=genes)).write(
            path
        )
    else:
        write(path, pd.DataFrame(written.T, index=genes, columns=names), kind, across)
        obs.iloc[order].to_csv(tmp_path / "samples.txt", sep="\t;,"[rng.integers(3)], index=False)
        options["samples"] = "samples.txt"

    cohort = read_cohort("own", path, options)

    linear = {"TPM": "TPM", "ln(CPM + 1)": "CPM", "log10(FPKM + 1)": "FPKM", "counts": "counts"}.get(unit, "TPM")
    assert cohort.uns["unit"] == linear
    assert list(cohort.obs_names) == names
    assert cohort.obs["tissue"].tolist() == obs["organ"].tolist()
    assert cohort.obs["donor"].tolist() == donors
    match = match_panel(cohort.var, panel)
    assert match["found"].all()
    expected = np.rint(values) if unit == "counts" else values
    np.testing.assert_allclose(cohort[:, match["gene"]].X, expected, rtol=2e-4, atol=1e-2)
    # and its unit is believed by the ingestion
    prepared = prepare_cohort(cohort, IngestionOptions(min_samples_per_tissue=1))
    million = 1e6 * expected / expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp2(prepared[:, match["gene"]].X) - 1, million, rtol=1e-3, atol=1e-2)
