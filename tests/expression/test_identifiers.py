"""Gene identifiers: what kind a list is, and the table made of it."""

from __future__ import annotations

import logging

import pytest

from transcriptome_diffusion.expression.identifiers import identify, is_par_y, recognise, without_version


@pytest.mark.parametrize(
    ("genes", "kind"),
    [
        (["ENSG00000223972", "ENSG00000227232"], "ensembl"),
        (["ENSG00000223972.5", "ENSG00000228572.7_PAR_Y", "ENSGR0000228572.7", "ENSG00000227232"], "ensembl"),
        (["7157", "4609"], "entrez"),
        (["TP53", "HLA-A", "AL354898.1", "7SK"], "symbol"),
        (["A1BG|1", "?|100130426", "HLA-A|3105"], "symbol|entrez"),
    ],
)
def test_each_kind_of_identifier_is_recognised(genes, kind):
    assert recognise(genes) == kind


def test_a_mixture_is_refused_with_examples_of_each_kind():
    with pytest.raises(ValueError, match=r"counts.csv mixes .*2 ensembl \(ENSG00000223972.5, .*1 symbol \(TP53\)"):
        recognise(["ENSG00000223972.5", "TP53", "ENSG00000227232.5"], "counts.csv")
    with pytest.raises(ValueError, match="no gene"):
        recognise([])


def test_y_copies_are_known_in_the_spelling_of_either_gencode_release():
    assert is_par_y("ENSG00000228572.7_PAR_Y")
    assert is_par_y("ENSGR0000228572.7")
    assert not is_par_y("ENSG00000228572.7")
    assert without_version("ENSG00000228572.7") == "ENSG00000228572"


def test_y_copies_go_before_the_version_is_cut_and_are_named(caplog):
    genes = ["ENSG00000228572.7", "ENSG00000228572.7_PAR_Y", "ENSG00000223972.5"]
    with caplog.at_level(logging.WARNING):
        kept, table = identify(genes, ["LL0YNC03-29C1.1", "LL0YNC03-29C1.1", "DDX11L1"], where="gtex.gct")
    assert kept.tolist() == [0, 2]
    assert table.index.tolist() == table["ensembl_id"].tolist() == ["ENSG00000228572", "ENSG00000223972"]
    assert table["symbol"].tolist() == ["LL0YNC03-29C1.1", "DDX11L1"]
    assert set(table["entrez_id"]) == {""}
    assert "1 Y copies" in caplog.text
    assert "ENSG00000228572.7_PAR_Y" in caplog.text


def test_symbol_and_entrez_id_are_taken_apart_and_the_whole_stays_the_key():
    kept, table = identify(["?|100130426", "SLC35E2|728661", "SLC35E2|9906"])
    assert kept.tolist() == [0, 1, 2]
    assert table.index.tolist() == ["?|100130426", "SLC35E2|728661", "SLC35E2|9906"]
    assert table["symbol"].tolist() == ["", "SLC35E2", "SLC35E2"]
    assert table["entrez_id"].tolist() == ["100130426", "728661", "9906"]
    assert not table["is_landmark"].any()


def test_identifiers_that_repeat_name_no_row_and_are_dropped_by_name(caplog):
    with caplog.at_level(logging.WARNING):
        kept, table = identify(["TP53", "SLC35E2", "MYC", "SLC35E2"])
    assert kept.tolist() == [0, 2]
    assert table["symbol"].tolist() == ["TP53", "MYC"]
    assert "2 rows whose identifiers repeat in the matrix: SLC35E2" in caplog.text


def test_a_declared_kind_keeps_its_own_rows_and_names_the_others(caplog):
    with caplog.at_level(logging.WARNING):
        kept, table = identify(["ENSG00000223972", "__no_feature", "ERCC-00002"], kind="ensembl")
    assert kept.tolist() == [0]
    assert table["ensembl_id"].tolist() == ["ENSG00000223972"]
    assert "1 rows that are not ensembl in the matrix: ERCC" in caplog.text
    assert "1 rows that are no genes in the matrix: __no_feature" in caplog.text
    kept, table = identify(["TP53", "ENSG00000288000"], kind="symbol")  # GENCODE names some genes by their id
    assert table["symbol"].tolist() == ["TP53", "ENSG00000288000"]


def test_nothing_left_is_an_error():
    with pytest.raises(ValueError, match=r"no gene of kind entrez left; it begins with \['TP53'\]"):
        identify(["TP53"], kind="entrez")
