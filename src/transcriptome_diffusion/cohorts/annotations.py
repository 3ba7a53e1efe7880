"""Tables that stand beside a matrix: of samples, of genes, of quality flags. Everything is text until it is used."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd
import polars as pl

from transcriptome_diffusion.cohorts.tables import text_blocks


def read_annotations(
    path: Path,
    needed: Sequence[str] = (),
    *,
    separator: str | None = "\t",
    encoding: str = "utf-8",
    quoted: bool = False,
    mend: str = "Fetch the file again.",
) -> pd.DataFrame:
    """A table of strings, "" where a cell is empty; plain or gzipped text, Parquet, or the first sheet of an .xlsx.

    A header that is one cell short of every row is that of R, which does not name the row names; their column is then
    called "".

    Args:
        path: the file.
        needed: columns it has to have.
        separator: between the cells of a line; None: found out.
        encoding: of the text; a byte order mark wins.
        quoted: whether quotation marks enclose cells, as in CSV, and blanks around cells are of no account; published
            tables use marks as plain characters.
        mend: what the user can do about a broken file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, has no row, or lacks a column.
    """
    if not path.is_file():
        raise FileNotFoundError(f"the table {path} does not exist. {mend}")
    try:
        if path.suffix.lower() == ".parquet":
            texts = pl.read_parquet(path).select(pl.all().cast(pl.String).fill_null(""))
            table = pd.DataFrame(texts.to_dict(as_series=False), dtype=object)
        elif path.suffix.lower() == ".xlsx":
            table = pd.read_excel(path, dtype=str, keep_default_na=False, na_filter=False)
            mend += " Of a workbook the first sheet is read, and its first row names the columns."
        else:
            table = _read_text(path, separator, encoding, csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    except ImportError as error:
        raise ValueError(f"reading {path} needs openpyxl: pip install openpyxl, or save it as CSV.") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not {encoding}: byte {error.object[error.start]:#04x} cannot be read. "
            "Declare its encoding, for instance latin-1, or save it as UTF-8."
        ) from error
    except (pl.exceptions.PolarsError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path} is not a table: {str(error).strip()}. {mend}") from error
    if quoted:  # a user's
        table = table.rename(columns=lambda name: str(name).strip()).apply(lambda column: column.str.strip())
    if missing := [column for column in needed if column not in table]:
        raise ValueError(f"{path} has no column {missing}; its columns are {list(table)[:12]}. {mend}")
    if table.empty:
        raise ValueError(f"{path} has a header but no row. {mend}")
    return table


def sniff_separator(lines: Sequence[str], otherwise: str) -> str:
    """Tab, semicolon, comma or bar, else the blank: what cuts all lines into most cells, in equal numbers.

    The header may be one cell short, as R writes it. Cells in quotation marks count as one.
    """
    best, most = otherwise, 1
    if not lines:
        return otherwise
    for separator in (otherwise, "\t", ";", ",", "|", " "):
        if separator == " " and most > 1:
            break
        counts = [len(cells) for cells in csv.reader(lines, delimiter=separator)]
        rows = set(counts[1:]) or {counts[0]}
        if len(rows) == 1 and (width := rows.pop()) - counts[0] in (0, 1) and width > most:
            best, most = separator, width
    return best


def _read_text(path: Path, separator: str | None, encoding: str, quoting: Literal[0, 3]) -> pd.DataFrame:
    content = b"".join(text_blocks(path))
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif content.startswith(codecs.BOM_UTF8):
        encoding = "utf-8-sig"
    text = content.decode(encoding)
    while quoting == csv.QUOTE_MINIMAL and text.startswith("#") and "\n" in text:  # comments that a user wrote
        text = text[text.index("\n") + 1 :]
    start = text[: text.rfind("\n", 0, 1_000_000)] if len(text) > 1_000_000 else text
    head = [line for line in start.splitlines()[:30] if line]
    if separator is None:
        separator = sniff_separator(head, "," if ".csv" in path.name.lower() else "\t")
    widths = [len(cells) for cells in csv.reader(head, delimiter=separator, quoting=quoting)]
    shifted = len(set(widths[1:])) == 1 and widths[1] == widths[0] + 1
    rows = pd.read_csv(
        io.StringIO(text),
        sep=separator,
        dtype=str,
        keep_default_na=False,
        quoting=quoting,
        header=None,  # so that the first line says how long the others may be
        names=range(widths[1]) if shifted else None,
    ).fillna("")
    names = list(rows.iloc[0])
    return rows[1:].reset_index(drop=True).set_axis(["", *names[:-1]] if shifted else names, axis=1)
