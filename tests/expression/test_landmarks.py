"""The landmark panel and its match."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.datasets import LandmarkTableDataset
from transcriptome_diffusion.expression.landmarks import (
    load_panel,
    match_panel,
    select_landmarks,
)
from transcriptome_diffusion.expression.options import IngestionOptions, LandmarkOptions, SplitOptions
from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.pipelines.ingestion.nodes import filter_genes, split_samples

PANEL = pd.DataFrame(
    [("10", "TEN", "ENSG00000000010"), ("20", "TWENTY", "ENSG00000000020"), ("30", "THIRTY", "ENSG00000000030")],
    columns=["entrez_id", "symbol", "ensembl_id"],
)


def gene_table(*genes: tuple[str, str, str]) -> pd.DataFrame:
    table = pd.DataFrame(genes, columns=["symbol", "entrez_id", "ensembl_id"])
    return table.set_index(pd.Index([f"row {i}" for i in range(len(table))])).assign(is_landmark=False)


def matched(*genes: tuple[str, str, str]) -> list[tuple]:
    columns = ["gene", "matched_by", "candidates", "rule"]
    return list(match_panel(gene_table(*genes), PANEL)[columns].itertuples(index=False, name=None))


def profiles(var: pd.DataFrame):
    values = np.arange(2.0 * len(var)).reshape(2, -1)
    return make_profiles(values, pd.DataFrame(index=["s0", "s1"]), var, "log2(TPM + 1)")


def test_the_panel_has_978_genes_with_unique_identifiers():
    panel = load_panel()
    assert list(panel) == ["entrez_id", "symbol", "ensembl_id"]
    assert len(panel) == 978
    assert panel.apply(lambda column: column.is_unique).all()
    assert panel["entrez_id"].str.fullmatch(r"\d+").all()
    assert panel["ensembl_id"].str.fullmatch(r"ENSG\d{11}").all()
    assert panel.set_index("entrez_id")["symbol"].get("780") == "DDR1"


def test_the_entrez_id_counts_and_neither_symbol_nor_ensembl_id_overrule_it():
    assert matched(("RENAMED", "10", ""), ("TEN", "77", "ENSG00000000010"), ("X", "", "ENSG00000000077")) == [
        ("row 0", "entrez_id", 1, "only"),
        ("", "", 0, ""),
        ("", "", 0, ""),
    ]


def test_the_ensembl_id_without_its_version_counts_where_there_is_no_entrez_id():
    assert matched(
        ("X", "", "ENSG00000000010.12"), ("X", "", "ENSG00000000020"), ("X", "", "ENSG00000000020.3_PAR_Y")
    ) == [("row 0", "ensembl_id", 1, "only"), ("row 1", "ensembl_id", 1, "only"), ("", "", 0, "")]


def test_the_symbol_counts_only_where_no_entrez_id_tells_genes_apart():
    # no id at all; an id shared by two genes; an id of its own that is another gene's
    assert matched(("TEN", "", ""), ("TWENTY", "5", ""), ("OTHER", "5", ""), ("THIRTY", "6", "")) == [
        ("row 0", "symbol", 1, "only"),
        ("row 1", "symbol", 1, "only"),
        ("", "", 0, ""),
    ]


def test_of_genes_sharing_an_id_the_one_with_the_panels_symbol_is_taken_else_the_first_by_name():
    genes = [("A", "10", ""), ("TEN", "10", ""), ("B", "20", ""), ("C", "20", ""), ("D", "30", "")]
    expected = [("TEN", 2, "symbol"), ("B", 2, "first"), ("D", 1, "only")]
    for order in (genes, genes[::-1]):
        var = gene_table(*order).set_index("symbol", drop=False)
        found = match_panel(var, PANEL)
        assert list(found[["gene", "candidates", "rule"]].itertuples(index=False, name=None)) == expected


def test_a_gene_table_without_an_id_column_is_refused():
    with pytest.raises(ValueError, match=r"lacks \['entrez_id'\]"):
        match_panel(gene_table(("A", "10", "")).drop(columns="entrez_id"), PANEL)


def test_landmarks_come_in_the_order_of_the_panel_and_the_missing_are_named(caplog):
    cohort = profiles(gene_table(("THIRTY", "30", ""), ("X", "99", ""), ("TEN", "10", "")))
    with caplog.at_level(logging.INFO):
        panel = match_panel(cohort.var, PANEL)
    selected = select_landmarks(cohort, panel, LandmarkOptions(min_coverage=0.6))
    assert selected.var["symbol"].tolist() == ["TEN", "THIRTY"]
    assert selected.X.tolist() == [[2, 0], [5, 3]]
    assert selected.uns["unit"] == "log2(TPM + 1)"
    assert selected.var["is_landmark"].all()
    assert not cohort.var["is_landmark"].any()
    assert "Found 2 of 3 landmark genes (2 by entrez_id); missing: TWENTY" in caplog.text


def test_too_small_a_coverage_is_refused_naming_what_is_missing():
    panel = load_panel()
    var = panel.iloc[:880].set_index("symbol", drop=False).rename_axis(None).assign(is_landmark=False)
    match = match_panel(var, panel)
    with pytest.raises(ValueError, match=rf"880 of 978 .*min_coverage=0\.9; missing: {panel['symbol'][880]}, "):
        select_landmarks(profiles(var), match, LandmarkOptions())
    assert select_landmarks(profiles(var), match, LandmarkOptions(min_coverage=0.89)).n_vars == 880


def test_a_panel_table_of_other_genes_is_refused():
    cohort = profiles(gene_table(("TEN", "10", ""), ("TWENTY", "20", ""), ("THIRTY", "30", "")))
    match = match_panel(cohort.var, PANEL)
    with pytest.raises(ValueError, match="lack 1 genes of the panel table"):
        select_landmarks(cohort[:, ["row 0", "row 1"]].copy(), match, LandmarkOptions())


class TestTable:
    def test_the_packaged_table_is_found_from_any_folder_and_one_of_the_users_in_its_place(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        packaged = LandmarkTableDataset().load()
        assert packaged.shape == (978, 3)
        assert packaged["entrez_id"].is_unique
        PANEL.to_csv(tmp_path / "mine.csv", index=False)
        mine = LandmarkTableDataset(filepath="mine.csv").load()
        pd.testing.assert_frame_equal(mine[PANEL.columns.to_list()], PANEL, check_dtype=False)
        assert LandmarkTableDataset().preview(2)["data"][0] == packaged.iloc[0].to_list()

    def test_a_table_without_the_columns_is_refused(self, tmp_path):
        (tmp_path / "mine.csv").write_text("gene,symbol\n1,A\n")
        with pytest.raises(Exception, match=r"mine\.csv lacks \['entrez_id', 'ensembl_id'\].*or null for the L1000"):
            LandmarkTableDataset(filepath=str(tmp_path / "mine.csv")).load()


def test_ingestion_marks_the_landmarks_in_every_part_and_leaves_the_gene_names_to_the_cohort():
    genes = gene_table(("X", "99", ""), ("TEN", "10", ""), ("SILENT", "20", ""), ("THIRTY", "30", ""))
    obs = pd.DataFrame({"tissue": "lung", "donor": [f"d{i}" for i in range(20)], "study": "own"})
    obs.index = [f"s{i}" for i in range(20)]
    values = np.ones((20, 4)) * [1, 1, 0, 1]
    cohort = make_profiles(values, obs, genes, "log2(TPM + 1)")
    table, _ = split_samples(cohort, SplitOptions())
    *parts, panel = filter_genes(cohort, table, PANEL, IngestionOptions(min_expressed_share=0.5))
    for part in parts:
        assert part.var["is_landmark"].to_dict() == {"row 0": False, "row 1": True, "row 3": True}
    # a landmark that no training sample expresses is filtered out, and so is not found
    assert panel.set_index("symbol")["found"].to_dict() == {"TEN": True, "TWENTY": False, "THIRTY": True}
    assert not cohort.var["is_landmark"].any()
