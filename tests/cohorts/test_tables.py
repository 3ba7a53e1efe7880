"""The reader of text matrices, against pandas and on files with one fault each."""

from __future__ import annotations

import bz2
import gzip
import logging
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.cohorts import progress, tables
from transcriptome_diffusion.cohorts.tables import read_gct, read_matrix

TEXT = "gene\ts1\ts2\ts3\nA\t0\t1.5\t2e3\nB\t4\t5\t6\nC\t.07\t8.\t-9\n"
GCT = "#1.2\n2\t3\nName\tDescription\ts1\ts2\ts3\nENSG1.1\tAA\t0\t1\t2\nENSG2.1\tAA\t3\t4\t5\n"


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes, name: str = "matrix.tsv") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks and slabs so small that a toy file has many of each."""
    monkeypatch.setattr(tables, "BLOCK", 700)
    monkeypatch.setattr(tables, "BATCH", 700)
    monkeypatch.setattr(tables, "SLAB", 300)
    monkeypatch.setattr(tables, "RANGES", 4)


def random_table(rng, genes: int, samples: int) -> pd.DataFrame:
    values = np.exp2(rng.normal(0, 8, (genes, samples))) * (rng.random((genes, samples)) > 0.5)
    return pd.DataFrame(values, [f"g{i}" for i in range(genes)], [f"s{i}" for i in range(samples)])


def test_values_are_given_by_sample_with_genes_and_samples_in_the_order_of_the_file(write):
    matrix = read_matrix(write(TEXT))
    assert (matrix.genes, matrix.samples, matrix.descriptions) == (["A", "B", "C"], ["s1", "s2", "s3"], [])
    assert matrix.id_columns == ["gene"]
    np.testing.assert_array_equal(matrix.values, np.float32([[0, 4, 0.07], [1.5, 5, 8], [2000, 6, -9]]))
    assert matrix.values.dtype == np.float32
    assert matrix.values.flags.c_contiguous


@pytest.mark.parametrize("end", ["\n", "\r\n\n", "\n\n\n"])
def test_empty_lines_at_the_end_are_no_genes(write, end):
    assert read_matrix(write(TEXT + end)).genes == ["A", "B", "C"]


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    ("genes", "samples", "separator"), [(300, 7, "\t"), (5, 900, ","), (1, 1, "\t"), (40, 41, ";")]
)
def test_every_shape_agrees_with_pandas_across_blocks(write, small_blocks, genes, samples, separator, compress):
    table = random_table(np.random.default_rng(genes), genes, samples)
    text = table.to_csv(sep=separator, float_format="%.4g").encode()
    path = write(gzip.compress(text) if compress else text)
    matrix = read_matrix(path, separator=separator)
    expected = pd.read_csv(path, sep=separator, index_col=0, compression="infer" if not compress else "gzip")
    assert (matrix.genes, matrix.samples) == (list(expected.index), list(expected.columns))
    np.testing.assert_allclose(matrix.values, expected.to_numpy().T, rtol=1e-7)


def test_only_wanted_genes_and_samples_are_kept(write, small_blocks):
    table = random_table(np.random.default_rng(0), 120, 30)
    genes, samples = [f"g{i}" for i in range(0, 120, 7)], [f"s{i}" for i in range(1, 30, 3)]
    matrix = read_matrix(
        write(table.to_csv(sep="\t")), keep=set(genes).__contains__, keep_samples=set(samples).__contains__
    )
    assert (matrix.genes, matrix.samples) == (genes, samples)
    np.testing.assert_allclose(matrix.values, table.loc[genes, samples].to_numpy().T, rtol=1e-6)


def test_rows_that_are_not_wanted_may_hold_anything_but_the_wrong_number_of_cells(write):
    odd = TEXT.replace("4\t5\t6", "x\ty\tz")
    assert read_matrix(write(odd), keep="AC".__contains__).genes == ["A", "C"]
    with pytest.raises(ValueError, match="line 3: 3 cells, but the header has 4"):
        read_matrix(write(odd.replace("\tz", "")), keep="AC".__contains__)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(TEXT.replace("\n", "\r\n"), id="Windows line ends"),
        pytest.param(TEXT.rstrip("\n"), id="no end of the last line"),
        pytest.param("\ufeff" + TEXT, id="byte order mark"),
        pytest.param(re.sub(r"\b([A-Cs]\d?)\b", r'"\1"', TEXT), id="quoted names"),
        pytest.param(TEXT.replace("gene\t", ""), id="row names of R, which have no header"),
        pytest.param(gzip.compress(TEXT[:20].encode()) + gzip.compress(TEXT[20:].encode()), id="two gzip members"),
        pytest.param(gzip.compress(TEXT.encode()) + b"\0" * 512, id="padded gzip"),
    ],
)
def test_these_packagings_of_a_table_change_nothing(write, text):
    expected, found = read_matrix(write(TEXT)), read_matrix(write(text, "other.tsv"))
    assert (found.genes, found.samples) == (expected.genes, expected.samples)
    np.testing.assert_array_equal(found.values, expected.values)


def test_firehose_has_a_second_header(write):
    text = TEXT.replace("\nA", "\ngene_id\tcount\tcount\tcount\nA")
    assert read_matrix(write(text), second_header=True).genes == ["A", "B", "C"]
    with pytest.raises(ValueError, match=r"line 2.*gene gene_id, sample s1, found 'count'"):
        read_matrix(write(text))
    with pytest.raises(ValueError, match=r"line 2: expected a second header, of units, found \['A', '0', '1\.5'\]"):
        read_matrix(write(TEXT), second_header=True)


@pytest.mark.parametrize("word", ["NA", "NaN", "nan", "null", "", "N/A"])
@pytest.mark.parametrize("place", ["0\t", "5", "-9"])
def test_missing_values_are_nan_where_that_is_asked_for_and_faults_elsewhere(write, word, place):
    path = write(TEXT.replace(f"\t{place}", f"\t{word}" + "\t" * place.endswith("\t")))
    matrix = read_matrix(path, missing="nan")
    assert np.isnan(matrix.values).sum() == 1
    assert np.isnan(matrix.values[{"0\t": (0, 0), "5": (1, 1), "-9": (2, 2)}[place]])
    with pytest.raises(ValueError, match=f"expected a finite number for gene .*found '{word}'"):
        read_matrix(path)


def test_several_words_for_a_missing_value_may_stand_in_different_blocks(write, small_blocks):
    words = ["NA", "", "null", "NaN"]
    rows = [f"g{i}\t{words[i // 100]}\t{i}" for i in range(400)]
    matrix = read_matrix(write("gene\ta\tb\n" + "\n".join(rows)), missing="nan")
    assert np.isnan(matrix.values[0]).all()
    np.testing.assert_array_equal(matrix.values[1], np.arange(400))


@pytest.mark.parametrize(
    "cell", ["high", "1,5", "0x1A", "1_000", "inf", "-Infinity", "1e39", "5 5", "TRUE", '5"5', "- 5"]
)
@pytest.mark.parametrize("missing", ["refuse", "nan"])
def test_what_is_no_finite_number_is_refused_with_its_place(write, small_blocks, cell, missing):
    rows = [f"g{i}\t1\t2\t3" for i in range(500)]
    rows[437] = f"g437\t1\t{cell}\t3"
    with pytest.raises(
        ValueError, match=r"matrix\.tsv, line 439: expected a finite.*gene g437, sample b, found"
    ) as caught:
        read_matrix(write("gene\ta\tb\tc\n" + "\n".join(rows)), missing=missing)
    assert repr(cell) in str(caught.value)


@pytest.mark.parametrize("cell", ["5 ", " 5 ", '"5"', '" 5"', "+5", "5.", "5e0"])
def test_numbers_in_quotation_marks_or_blanks_are_numbers(write, small_blocks, cell):
    rows = [f"g{i}\t1\t{cell if i % 7 == 3 else 2}\t3" for i in range(500)]
    values = read_matrix(write("gene\ta\tb\tc\n" + "\n".join(rows))).values
    np.testing.assert_array_equal(values[1], np.where(np.arange(500) % 7 == 3, 5, 2))


def test_values_below_the_lowest_are_refused_with_their_place(write):
    assert read_matrix(write(TEXT), lowest=-9).values.min() == -9
    with pytest.raises(ValueError, match=r"line 4: .*number of at least 0 for gene C, sample s3, found '-9'"):
        read_matrix(write(TEXT), lowest=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "is empty, or ends before its header", id="empty"),
        pytest.param("gene\ts1\n", "has a header but no gene", id="no gene"),
        pytest.param("gene\nA\n", r"has no sample: its header is \['gene'\]. Is the separator", id="no sample"),
        pytest.param(TEXT.replace("\t", ","), "has no sample.*Is the separator '\\\\t'", id="another separator"),
        pytest.param(TEXT.replace("\t5\t", "\t"), "line 3: 3 cells, but the header has 4", id="short row"),
        pytest.param(TEXT.replace("\t5\t", "\t5\t5\t"), "line 3: 5 cells, but the header has 4", id="long row"),
        pytest.param(TEXT.replace("\nB", "\n\nB"), "line 3: empty, but genes follow", id="blank row"),
        pytest.param(TEXT.replace("\nB", "\n"), "line 3: a gene without a name", id="nameless gene"),
        pytest.param(TEXT.replace("s2", ""), "value column 2 of 3 has no sample name", id="nameless sample"),
        pytest.param(TEXT.replace("s3", "s1"), "1 samples have several columns: s1", id="repeated sample"),
        pytest.param(TEXT.replace("s3", "s\xe4").encode("latin-1"), "line 1 is not UTF-8", id="latin-1 header"),
        pytest.param(TEXT.replace("\nB", "\n\xe4").encode("latin-1"), "line 3 is not UTF-8", id="latin-1 gene"),
        pytest.param(TEXT.encode("utf-16"), "line 1 is not UTF-8", id="UTF-16"),
        pytest.param("<!DOCTYPE html><html>", "is a web page", id="web page"),
        pytest.param(b"PK\x03\x04rest", "is a zip archive", id="zip"),
        pytest.param(bz2.compress(TEXT.encode()), "is a bzip2 file", id="bzip2"),
    ],
)
def test_a_broken_table_is_refused_by_name_and_place(write, text, message):
    with pytest.raises(ValueError, match=rf"matrix\.tsv.*{message}"):
        read_matrix(write(text))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(TEXT.replace("\ts1", ""), id="a name is gone from the header"),
        pytest.param(TEXT.replace("gene\ts1", "GeneSymbol"), id="in another spelling"),
        pytest.param("odd\ts1\nA\t1\t\nB\t2\t\n", id="rows end with a separator"),
    ],
)
def test_a_short_header_is_not_taken_for_rs_where_values_would_be_shifted(write, text):
    with pytest.raises(ValueError, match=r"line 2: \d cells, but the header has \d"):
        read_matrix(write(text))


def test_a_column_of_names_that_is_read_as_values_is_recognised(write):
    with pytest.raises(ValueError, match=r"sample symbol, found 'TSPAN6'.*set `id_columns: 2`"):
        read_matrix(write("gene\tsymbol\ts1\nA\tTSPAN6\t1\n"))
    with pytest.raises(ValueError, match=r"sample s1, found 'high'.*fetch the file again\.$"):
        read_matrix(write("gene\ts0\ts1\nA\t1\thigh\n"))


def test_truncated_and_corrupt_gzip_files_are_refused(write):
    whole = gzip.compress(TEXT.encode() * 40)
    for cut in (3, 12, len(whole) // 2, len(whole) - 1):
        with pytest.raises(ValueError, match=r"matrix\.tsv is truncated"):
            read_matrix(write(whole[:cut]))
    for broken in (whole[:12] + bytes([whole[12] ^ 255]) + whole[13:], whole[:-8] + b"\0" * 8):
        with pytest.raises(ValueError, match="is not a sound gzip file"):
            read_matrix(write(broken))


def test_announced_sizes_are_held_to(write):
    assert read_matrix(write(TEXT), expected_rows=3, expected_columns=3).genes == ["A", "B", "C"]
    with pytest.raises(ValueError, match="announces 4 genes, but has 3"):
        read_matrix(write(TEXT), expected_rows=4)
    with pytest.raises(ValueError, match="announces 2 samples, but its header has 3"):
        read_matrix(write(TEXT), expected_columns=2)


def test_a_matrix_of_which_nothing_is_wanted_is_refused(write):
    with pytest.raises(ValueError, match=r"none of the 3 genes.*the first is 'A'"):
        read_matrix(write(TEXT), keep="XYZ".__contains__)
    with pytest.raises(ValueError, match=r"none of the 3 samples.*'s1', 's2'.*sample table"):
        read_matrix(write(TEXT), keep_samples="XYZ".__contains__)


def test_repeated_samples_are_refused_kept_or_cut_to_the_first(write, caplog):
    path = write(TEXT.replace("s3", "s1"))
    assert read_matrix(path, on_repeated_samples="keep").samples == ["s1", "s2", "s1"]
    with caplog.at_level(logging.WARNING):
        first = read_matrix(path, on_repeated_samples="first")
    assert "1 samples have several columns: s1" in caplog.text
    assert first.samples == ["s1", "s2"]
    np.testing.assert_array_equal(first.values, read_matrix(write(TEXT)).values[:2])


def test_a_gct_file_gives_names_and_descriptions(write):
    matrix = read_gct(write(GCT))
    assert (matrix.genes, matrix.descriptions) == (["ENSG1.1", "ENSG2.1"], ["AA", "AA"])
    np.testing.assert_array_equal(matrix.values, np.float32([[0, 3], [1, 4], [2, 5]]))
    assert read_gct(write(GCT), keep="ENSG2.1".__eq__).descriptions == ["AA"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("#1.2", "#1.3", "not GCT 1.2: .*found '#1.3'.*save it as GCT 1.2"),
        ("#1.2\n", "", r"not GCT 1.2: expected '#1.2' as its first line, found '2\\t3'"),
        ("2\t3\n", "2\t3\t1\t1\n", "line 2: expected the numbers of genes and of samples"),
        ("2\t3\n", "3\t3\n", "announces 3 genes, but has 2"),
        ("2\t3\n", "2\t4\n", "announces 4 samples, but its header has 3"),
        ("Name\tDescription", "id\tName", "line 3: expected a header that begins with Name, Description"),
        ("\t4\t", "\t-\t", "line 5: .*gene ENSG2.1, sample s2, found '-'"),
    ],
)
def test_a_gct_file_that_contradicts_itself_is_refused(write, old, new, message):
    with pytest.raises(ValueError, match=message):
        read_gct(write(GCT.replace(old, new)))


def test_a_fault_far_into_a_file_leaves_no_thread_and_no_open_file_behind(write, small_blocks):
    import threading

    before = threading.active_count()
    with pytest.raises(ValueError, match="line 2001"):
        read_matrix(write("gene\ta\n" + "g\t1\n" * 1999 + "g\tx\n" + "g\t1\n" * 9000))
    assert threading.active_count() == before


def test_a_long_read_without_a_terminal_tells_how_far_it_is(write, small_blocks, monkeypatch, caplog):
    monkeypatch.setattr(progress, "LOG_EVERY", 0)
    with caplog.at_level(logging.INFO):
        read_matrix(write(random_table(np.random.default_rng(0), 300, 7).to_csv(sep="\t")), title="my matrix")
    shares = [int(share) for share in re.findall(r"my matrix: (\d+) % of", caplog.text)]
    assert len(shares) > 3
    assert shares == sorted(shares)
    assert shares[-1] == 100
