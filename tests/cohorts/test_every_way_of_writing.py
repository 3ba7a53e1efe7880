"""A cohort, written in any format, orientation, separator, kind of id and unit, comes back as the same cohort."""

from __future__ import annotations

import gzip
import tempfile
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

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
FORMATS = ["tsv", "csv", "semicolon", "comma decimals", "bar", "tsv.gz", "parquet", "gct", "h5ad", "h5ad sparse"]
STYLES = ["plain", "quoted", "windows", "byte order mark", "comments", "blanks"]


@dataclass(frozen=True)
class Case:
    """A cohort and how it is written; ``across``: genes in columns."""

    seed: int
    samples: int
    genes: int
    kind: str
    style: str
    unit: str
    ids: str
    across: bool
    table_separator: str


CASES = st.builds(
    Case,
    seed=st.integers(0, 2**30),
    samples=st.integers(3, 30),
    genes=st.integers(20, 200),
    kind=st.sampled_from(FORMATS),
    style=st.sampled_from(STYLES),
    unit=st.sampled_from(list(UNITS)),
    ids=st.sampled_from(list(IDS)),
    across=st.booleans(),
    table_separator=st.sampled_from("\t;,|"),
)


def draw(case, rng):
    """Linear values (n_samples, n_genes) of one total, with zeros; sample names; the panel's rows of the genes."""
    panel = load_panel().sample(case.genes, random_state=case.seed).reset_index(drop=True)
    panel = panel[panel["ensembl_id"] != ""]
    values = rng.gamma(0.3, 50, (case.samples, len(panel))) * (rng.random((case.samples, len(panel))) > 0.1)
    values[:, 0] += 1
    values *= 1e6 / values.sum(axis=1, keepdims=True)
    ends = ["", "-01", ".a", "_x", " b"]
    names = [f"{chr(65 + i % 26)}{i}{ends[rng.integers(len(ends))]}" for i in range(case.samples)]
    return values, names, panel


def write(path, table, case):
    """Write a table of genes in rows."""
    if case.kind == "gct":
        text = table.rename_axis("Name").assign(Description="na")
        text = text[["Description", *table.columns]].to_csv(sep="\t")
        path.write_text(f"#1.2\n{table.shape[0]}\t{table.shape[1]}\n{text}")
        return
    table = (table.T if case.across else table).rename_axis("id")
    if case.kind == "parquet":
        pl.DataFrame(table.reset_index().to_dict("list")).write_parquet(path)
        return
    separator = {"csv": ",", "semicolon": ";", "comma decimals": ";", "bar": "|"}.get(case.kind, "\t")
    text = table.to_csv(
        sep=separator,
        decimal="," if case.kind == "comma decimals" else ".",
        quoting=1 if case.style == "quoted" else 0,
        lineterminator="\r\n" if case.style == "windows" else "\n",
    )
    if case.style == "comments":
        text = f"# written by a test\n# on a day\n{text}"
    if case.style == "blanks":
        text = text.replace(separator, f" {separator} ")
    content = text.encode("utf-8-sig" if case.style == "byte order mark" else "utf-8")
    path.write_bytes(gzip.compress(content) if case.kind.endswith("gz") else content)


@given(CASES)
@settings(max_examples=30, derandomize=True, deadline=None, database=None)
def test_it_comes_back(case):
    with tempfile.TemporaryDirectory() as folder:
        comes_back(Path(folder), case)


def comes_back(folder, case):
    if case.kind == "bar" and case.ids == "symbol|entrez":
        return  # the separator would cut the ids
    rng = np.random.default_rng(case.seed)
    values, names, panel = draw(case, rng)
    unit = case.unit
    written, genes = UNITS[unit](values), IDS[case.ids](panel, rng)
    donors = [f"d{i // 2}" for i in range(len(names))]
    obs = pd.DataFrame({"id": names, "organ": [f"organ {i % 3}" for i in range(len(names))], "who": donors})
    options = {"columns": {"sample": "id", "tissue": "organ", "donor": "who"}, "unit": unit}
    ending = case.kind if case.kind in ("tsv", "csv", "tsv.gz", "parquet", "gct") else "txt"
    path = folder / f"matrix.{'h5ad' if case.kind.startswith('h5ad') else ending}"
    if case.kind == "comma decimals":
        options["decimal"] = ","
    if path.suffix == ".h5ad":
        profiles = ad.AnnData(
            csr_matrix(written) if case.kind == "h5ad sparse" else written,
            obs=obs.set_index("id", drop=False).rename_axis(None),
            var=pd.DataFrame(index=genes),
        )
        profiles.write_h5ad(path)
    else:
        write(path, pd.DataFrame(written.T, index=genes, columns=names), case)
        shuffled = obs.iloc[rng.permutation(len(names))]
        shuffled.to_csv(folder / "samples.txt", sep=case.table_separator, index=False)
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
