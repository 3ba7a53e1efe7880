"""Tables that stand beside a matrix: of samples, of genes, of quality flags. Everything is text until it is used."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import polars as pl

from transcriptome_diffusion.cohorts.tables import text_blocks


def read_annotations(
    path: Path,
    needed: Sequence[str] = (),
    *,
    separator: str = "\t",
    encoding: str = "utf-8",
    quoted: bool = False,
    mend: str = "Fetch the file again.",
) -> pd.DataFrame:
    """A table of strings, "" where a cell is empty; plain or gzipped text, or Parquet.

    Args:
        path: the file.
        needed: columns it has to have.
        separator: between the cells of a line.
        encoding: of the text.
        quoted: whether quotation marks enclose cells, as in CSV; published tables use them as plain characters.
        mend: what the user can do about a broken file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, has no row, or lacks a column.
    """
    if not path.is_file():
        raise FileNotFoundError(f"the table {path} does not exist. {mend}")
    text = b"" if path.suffix == ".parquet" else b"".join(text_blocks(path))
    try:
        if path.suffix == ".parquet":
            texts = pl.read_parquet(path).select(pl.all().cast(pl.String).fill_null(""))
            table = pd.DataFrame(texts.to_dict(as_series=False), dtype=object)
        else:
            table = pd.read_csv(
                io.BytesIO(text),
                sep=separator,
                dtype=str,
                keep_default_na=False,
                quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
                encoding=encoding,
                header=None,  # so that the first line says how long the others may be
            ).fillna("")
            table = table[1:].reset_index(drop=True).set_axis(list(table.iloc[0]), axis=1)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not {encoding}: byte {error.object[error.start]:#04x} cannot be read. "
            "Declare its encoding, for instance latin-1, or save it as UTF-8."
        ) from error
    except (pl.exceptions.PolarsError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise ValueError(f"{path} is not a table: {str(error).strip()}. {mend}") from error
    if missing := [column for column in needed if column not in table]:
        raise ValueError(f"{path} has no column {missing}; its columns are {list(table)[:12]}. {mend}")
    if table.empty:
        raise ValueError(f"{path} has a header but no row. {mend}")
    return table
