"""Tables beside a matrix."""

from __future__ import annotations

import gzip

import polars as pl
import pytest

from transcriptome_diffusion.cohorts.annotations import read_annotations

TEXT = 'SAMPID\tNOTES\tAGE\ns1\t2 pieces, 6" long\t60-69\ns2\t"unbalanced\t\ns3\tNA\t7\n'


def test_everything_is_text_and_quotation_marks_are_plain_characters(tmp_path):
    (tmp_path / "t.txt").write_text(TEXT)
    table = read_annotations(tmp_path / "t.txt", ["SAMPID"])
    assert table["SAMPID"].tolist() == ["s1", "s2", "s3"]
    assert table["NOTES"].tolist() == ['2 pieces, 6" long', '"unbalanced', "NA"]
    assert table["AGE"].tolist() == ["60-69", "", "7"]


def test_gzip_is_recognised_by_its_bytes_and_parquet_by_its_name(tmp_path):
    (tmp_path / "t.txt").write_bytes(gzip.compress(TEXT.encode()))
    plain = read_annotations(tmp_path / "t.txt")
    pl.DataFrame({**plain.to_dict("list"), "number": [1, 2, 3]}).write_parquet(tmp_path / "t.parquet")
    assert read_annotations(tmp_path / "t.parquet")["number"].tolist() == ["1", "2", "3"]


def test_quoted_cells_may_hold_the_separator_where_the_format_quotes(tmp_path):
    (tmp_path / "t.csv").write_text('id,organ\ns1,"lung, left"\n')
    assert read_annotations(tmp_path / "t.csv", separator=",", quoted=True)["organ"].tolist() == ["lung, left"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"t\.txt is not a table.*Mend it"),
        (b"SAMPID\n", r"t\.txt has a header but no row\. Mend it"),
        (b"id\tx\ns1\t1\n", r"no column \['SAMPID'\]; its columns are \['id', 'x'\]\. Mend it"),
        (b"SAMPID\tx\ns1\t1\t2\t3\ns2\t1\n", r"is not a table: .*Mend it"),
        ("SAMPID\nSjö\n".encode("latin-1"), r"is not utf-8: byte 0xf6 cannot be read"),
        (
            gzip.compress(TEXT.encode(), mtime=0)[:-20],
            r"t\.txt is truncated: the gzip stream ends too early",
        ),
        (b"PK\x03\x04\x14\xff", r"is a zip archive \(as Excel's \.xlsx is\); expected a table of text"),
        (b"<!DOCTYPE html>", r"is a web page; expected a table of text"),
    ],
)
def test_each_fault_is_named(tmp_path, content, message):
    (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_annotations(tmp_path / "t.txt", ["SAMPID"], mend="Mend it.")


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.txt does not exist"):
        read_annotations(tmp_path / "none.txt")


def test_missing_cells_of_a_parquet_file_are_empty(tmp_path):
    pl.DataFrame({"sample": ["s1", "s2"], "organ": ["liver", None]}).write_parquet(tmp_path / "t.parquet")
    assert read_annotations(tmp_path / "t.parquet")["organ"].tolist() == ["liver", ""]
