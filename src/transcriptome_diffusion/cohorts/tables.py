"""Expression matrices in text, read in blocks of whole lines: genes in rows, samples in columns, plain or gzip.

One thread decompresses while others parse, and only the rows that are wanted are parsed: a block's cells are handed
to polars as one long column, which is several times faster than a table of thousands of columns.
"""

from __future__ import annotations

import logging
import mmap
import os
import re
import zlib
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, pairwise, takewhile
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
import polars as pl

from transcriptome_diffusion.cohorts.progress import Progress
from transcriptome_diffusion.memory import require_memory

logger = logging.getLogger(__name__)

#: bytes of text that are read, and of wanted text that are parsed, at once
BLOCK, BATCH = 1 << 20, 4 << 20
#: bytes of values that are collected at once (few, so that turning them stays in the cache), and ranges of samples
SLAB, RANGES = 512 << 10, 32
#: bytes from which numpy counts cells faster than bytes do
LONG = 1000
#: threads that parse
PARSERS = min(4, os.cpu_count() or 1)
#: bytes that a value takes until all are in their place, and that text on its way takes
VALUE, OVERHEAD = 4.2, 64 << 20
LARGEST = float(np.finfo(np.float32).max)
MISSING = ("NA", "N/A", "n/a", "na", "#N/A", "<NA>", "null", "NULL", "None", "NaN", "nan", "")

_GZIP = b"\x1f\x8b"
_FOREIGN = {
    b"%%MatrixMarket": "a Matrix Market file, whose names stand in other files",
    b"X\n\0": "an R object (.rds)",
    b"RDX": "an R workspace (.RData)",
    b"PK\x03\x04": "a zip archive (as Excel's .xlsx is)",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"\x89HDF": "an HDF5 file",
    b"PAR1": "a Parquet file",
    b"<": "a web page",
}
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+(\.\d+)?")
_NUMBER = re.compile(r" *[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# what the column of ids is called, by which R's header without it is told from one that lost a cell
_ID_NAME = re.compile(
    r"(ensembl|entrez|hugo|sample|gene|probe|feature)?s?[ ._-]?(gene|sample)?[ ._-]?(id|name|symbol)?s?", re.IGNORECASE
)
_FETCH_AGAIN = "The file may have been cut off or edited; fetch it again."


@dataclass(frozen=True, eq=False)
class Matrix:
    """An expression matrix as in the file, cut to the genes and samples that were wanted.

    Attributes:
        genes: first id column of the kept rows, in the file's order.
        extra: the further id columns of the same rows, one list each.
        samples: header of the kept value columns, in the file's order.
        values: (n_samples, n_genes) float32, C order.
        id_columns: header of the id columns; empty where R left it out.
    """

    genes: list[str]
    extra: list[list[str]]
    samples: list[str]
    values: np.ndarray
    id_columns: list[str]

    @property
    def descriptions(self) -> list[str]:
        """The second id column; empty where there is none."""
        return self.extra[0] if self.extra else []


def read_matrix(
    path: str | Path,
    *,
    separator: str = "\t",
    id_columns: int = 1,
    skip_lines: int = 0,
    second_header: bool = False,
    skip_after_header: int = 0,
    end: str | None = None,
    keep: Callable[[str], bool] | None = None,
    keep_samples: Callable[[str], bool] | None = None,
    missing: Literal["refuse", "nan"] = "refuse",
    lowest: float | None = None,
    on_repeated_samples: Literal["refuse", "first", "keep"] = "refuse",
    expected_rows: int | None = None,
    expected_columns: int | None = None,
    most_genes: int | None = None,
    title: str | None = None,
    decimal: Literal[".", ","] = ".",
) -> Matrix:
    """Read a matrix of text with genes in rows and samples in columns; gzip is recognised by its first bytes.

    Beside the values there are only a few blocks of a MiB, never the whole text. Gene ids and headers may stand in
    double quotes. A header that is one cell short of every row is taken for R's, which does not name the ids, unless
    it begins with such a name or the rows end with an empty cell: then values would stand under their neighbour.

    Args:
        path: the file.
        separator: one character.
        id_columns: columns before the values; the first names the gene.
        skip_lines: lines before the header.
        second_header: whether a second line, of units, follows the header (Firehose).
        skip_after_header: lines of metadata that follow the header.
        end: how a line begins that ends the matrix.
        keep: whether a gene, given the first id, is wanted; other rows are counted but not parsed.
        keep_samples: whether a sample is wanted.
        missing: whether ``NA``, ``NaN`` and empty cells are faults or NaN.
        lowest: smaller values are faults.
        on_repeated_samples: whether columns of the same name are a fault, kept, or cut to the first.
        expected_rows: how many genes the file says it has.
        expected_columns: how many samples the file says it has.
        most_genes: how many genes ``keep`` can want; with ``expected_rows`` it tells the memory that is needed.
        title: stands before the progress; None: the file's name.
        decimal: the decimal sign.

    Raises:
        ValueError: if the file is broken, a value is not a finite number, or nothing is wanted; the message gives
            file, line, gene, sample and cell.
        NotEnoughMemoryError: if the values do not fit, where their number is known beforehand.
    """
    path, delimiter = Path(path), separator.encode()
    seen = Progress(title or path.name, path.stat().st_size, "read")
    with seen, closing(_ahead(text_blocks(path, seen))) as blocks:
        lines = text_lines(blocks)
        for _ in range(skip_lines):
            next(lines, None)
        header = [_unquoted(cell) for cell in _text(path, next(lines, None)).split(separator)]
        if second_header and _NUMBER.fullmatch((units := _text(path, next(lines, None)).split(separator))[-1]):
            raise ValueError(f"{path}, line 2: expected a second header, of units, found {units[:3]}. {_FETCH_AGAIN}")
        for _ in range(skip_after_header):
            next(lines, None)
        if end is not None:
            mark = end.encode()
            lines = takewhile(lambda line: not line.block.startswith(mark, line.start), lines)
        first = next(lines, None)
        if first is None:
            raise ValueError(f"{path} has a header but no gene.")
        # R's write.table gives the row names no header
        nameless = (
            id_columns == 1
            and _count(first, delimiter) == len(header) + 1
            and _ID_NAME.fullmatch(header[0]) is None
            and not first.block.endswith(delimiter, first.start, first.stop)
        )
        id_names, samples = ([], header) if nameless else (header[:id_columns], header[id_columns:])
        if not samples:
            raise ValueError(
                f"{path} has no sample: its header is {header}. Is the separator {separator!r}, and does the header "
                "stand in the first line, without a title above it?"
            )
        if expected_columns is not None and len(samples) != expected_columns:
            raise ValueError(
                f"{path} announces {expected_columns} samples, but its header has {len(samples)}. {_FETCH_AGAIN}"
            )
        columns = _wanted_samples(path, samples, keep_samples, on_repeated_samples)
        if expected_rows is not None and (keep is None or most_genes is not None):
            genes = min(expected_rows, most_genes or expected_rows)
            what = f"reading {len(columns)} samples x {genes} genes of {path.name}"
            require_memory(what, OVERHEAD + VALUE * len(columns) * genes, "Read coding genes alone, or fewer samples.")
        rows = _Rows(path, delimiter, id_columns, samples, columns, missing, lowest, decimal)
        rows.read(chain([first], lines), keep)
    if expected_rows is not None and rows.seen != expected_rows:
        raise ValueError(f"{path} announces {expected_rows} genes, but has {rows.seen}. {_FETCH_AGAIN}")
    if not rows.genes:
        raise ValueError(
            f"none of the {rows.seen} genes of {path} is wanted; the first is {rows.first_gene!r}. "
            "Do the gene ids and the gene table belong together?"
        )
    return Matrix(rows.genes, rows.extra, [samples[i] for i in columns], rows.values.joined(), id_names)


def read_gct(path: str | Path, metadata: bool = False, **options: Any) -> Matrix:
    """Read a GCT file, holding it to the sizes on its second line; ``options`` are those of ``read_matrix``.

    Format: https://software.broadinstitute.org/cancer/software/gsea/wiki/index.php/Data_formats; version 1.3, with
    metadata of genes (the further id columns) and of samples (rows, which are left out): https://clue.io.

    Args:
        path: the file.
        metadata: whether version 1.3 is read as well.

    Raises:
        ValueError: as ``read_matrix``, and if the file is not of such a version.
    """
    path = Path(path)
    lines = text_lines(text_blocks(path))
    version, sizes, header = (_text(path, next(lines, None)) for _ in range(3))
    if version.strip() not in (("#1.2", "#1.3") if metadata else ("#1.2",)):
        hint = " Its metadata would be read as expression: save it as GCT 1.2." if version.startswith("#1.3") else ""
        raise ValueError(f"{path} is not GCT 1.2: expected '#1.2' as its first line, found {version[:60]!r}.{hint}")
    counts = [int(cell) for cell in sizes.split("\t") if cell.strip().isdigit()]
    if len(counts) != (2 if version.strip() == "#1.2" else 4):
        raise ValueError(f"{path}, line 2: expected the numbers of genes and of samples, found {sizes[:60]!r}.")
    rows, columns, about_genes, about_samples = [*counts, 1, 0][:4]
    if version.strip() == "#1.2" and [cell.lower() for cell in header.split("\t")[:2]] != ["name", "description"]:
        raise ValueError(
            f"{path}, line 3: expected a header that begins with Name, Description, found {header[:60]!r}."
        )
    return read_matrix(
        path,
        id_columns=1 + about_genes,
        skip_lines=2,
        skip_after_header=about_samples,
        expected_rows=rows,
        expected_columns=columns,
        **options,
    )


def refuse_foreign(path: Path, head: bytes) -> None:
    """Raise ValueError if a file's first bytes are those of another format than text or gzip."""
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            raise ValueError(f"{path} is {what}; expected a table of text, plain or gzip. Save it as that.")


class Line(NamedTuple):
    """A line of a block, without its end."""

    number: int
    block: bytes
    start: int
    stop: int


class _Row(NamedTuple):
    """A wanted row: its line, its gene, and its cells without the ids."""

    number: int
    gene: str
    cells: bytes


class _Columns:
    """Rows as they come, one column each in the end, (width, n_rows); the result never exists twice.

    They are collected by ranges of columns. A range's memory goes back to the system as soon as it is in its place,
    and its place is memory that nothing touched before.
    """

    def __init__(self, width: int) -> None:
        edges = np.linspace(0, width, min(RANGES, width) + 1).astype(int).tolist()
        self.ranges = list(pairwise(edges))
        self.slabs: dict[int, list[np.ndarray]] = {low: [] for low, _ in self.ranges}
        self.height = max(1, SLAB * len(self.ranges) // (4 * width))
        self.width, self.rows = width, 0

    def append(self, rows: np.ndarray) -> None:
        while len(rows):
            place = self.rows % self.height
            part, rows = rows[: self.height - place], rows[self.height - place :]
            for low, high in self.ranges:
                if place == 0:
                    # not from malloc, which keeps what is freed for later
                    memory = mmap.mmap(-1, 4 * self.height * (high - low))
                    self.slabs[low].append(np.frombuffer(memory, dtype=np.float32).reshape(self.height, -1))
                self.slabs[low][-1][place : place + len(part)] = part[:, low:high]
            self.rows += len(part)

    def joined(self) -> np.ndarray:
        """The result; nothing is left here."""
        values = np.empty((self.width, self.rows), dtype=np.float32)

        def place(low: int, high: int) -> None:
            slabs = self.slabs.pop(low)
            for start in range(0, self.rows, self.height):
                part = values[low:high, start : start + self.height]
                part[:] = slabs.pop(0)[: part.shape[1]].T

        with ThreadPoolExecutor(PARSERS) as pool:
            list(pool.map(place, *zip(*self.ranges, strict=True)))
        return values


class _Rows:
    """Collects the wanted rows of a matrix, and finds the fault in those that cannot be parsed."""

    def __init__(
        self,
        path: Path,
        delimiter: bytes,
        id_columns: int,
        samples: list[str],
        columns: list[int],
        missing: str,
        lowest: float | None,
        decimal: str,
    ) -> None:
        self.path, self.delimiter, self.id_columns, self.samples = path, delimiter, id_columns, samples
        self.columns = None if len(columns) == len(samples) else np.array(columns)
        self.missing, self.lowest, self.decimal = missing, lowest, decimal
        self.genes: list[str] = []
        self.extra: list[list[str]] = [[] for _ in range(id_columns - 1)]
        self.gaps: frozenset[str] = frozenset()  # words for a missing value that occurred
        self.first_gene = ""
        self.seen = 0
        self.values = _Columns(len(columns))

    def read(self, lines: Iterable[Line], keep: Callable[[str], bool] | None) -> None:
        """Take in all lines; wanted rows are parsed by threads, as polars needs no lock for it."""
        with ThreadPoolExecutor(PARSERS) as pool:
            pending: deque[Future[np.ndarray]] = deque()
            for batch in self._batches(lines, keep):
                pending.append(pool.submit(self._parse, batch))
                if len(pending) > PARSERS:
                    self.values.append(pending.popleft().result())
            for values in pending:
                self.values.append(values.result())

    def _batches(self, lines: Iterable[Line], keep: Callable[[str], bool] | None) -> Iterator[list[_Row]]:
        """The wanted rows, so many at once as make up a block."""
        cells = self.id_columns + len(self.samples)
        batch: list[_Row] = []
        size = blank = 0
        for line in lines:
            if line.start == line.stop:  # at the end of the file, nothing is lost
                blank = blank or line.number
                continue
            if blank:
                raise ValueError(f"{self.path}, line {blank}: empty, but genes follow. {_FETCH_AGAIN}")
            if (found := _count(line, self.delimiter)) != cells:
                raise ValueError(
                    f"{self.path}, line {line.number}: {found} cells, but the header has {cells}. "
                    + self._why_ragged(line, found - cells)
                )
            ids, start = self._ids(line)
            if not ids[0]:
                raise ValueError(f"{self.path}, line {line.number}: a gene without a name in the first column.")
            self.first_gene = self.first_gene or ids[0]
            self.seen += 1
            if keep is None or keep(ids[0]):
                self.genes.append(ids[0])
                for column, cell in zip(self.extra, ids[1:], strict=True):
                    column.append(cell)
                batch.append(_Row(line.number, ids[0], line.block[start : line.stop]))
                size += line.stop - start
                if size > BATCH:
                    yield batch
                    batch, size = [], 0
        if batch:
            yield batch

    def _why_ragged(self, line: Line, more: int) -> str:
        """What may have given a line cells that the header lacks."""
        text = line.block[line.start : line.stop]
        if more == 1 and text.endswith(self.delimiter):
            return "The line ends with a separator, and the header does not: remove it."
        if more > 0 and b'"' in text:
            return "Cells in quotation marks that hold the separator cannot be read: write the file with tabs."
        return _FETCH_AGAIN

    def _ids(self, line: Line) -> tuple[list[str], int]:
        """The id cells of a line, and where its values start."""
        ids, start = [], line.start
        for _ in range(self.id_columns):
            stop = line.block.find(self.delimiter, start)
            ids.append(_unquoted(_decoded(self.path, line.number, line.block[start:stop])))
            start = stop + 1
        return ids, start

    def _parse(self, batch: Sequence[_Row]) -> np.ndarray:
        """The values of rows, (n_rows, n_wanted_samples)."""
        text = self.delimiter.join(row.cells for row in batch) + self.delimiter
        if self.decimal != ".":
            text = text.replace(self.decimal.encode(), b".")
        try:
            column = self._column(text)
        except pl.exceptions.PolarsError as error:
            try:  # cells in quotation marks, or with blanks around them, take longer
                column = self._column(self._bare(text))
            except pl.exceptions.PolarsError:
                raise self._fault(batch) from error
        gaps = self.missing == "refuse" and column.null_count()
        if len(column) != len(batch) * len(self.samples) or gaps:
            raise self._fault(batch)
        values = column.to_numpy().reshape(len(batch), -1)  # nulls become NaN
        if self.columns is not None:
            values = values[:, self.columns]
        faulty = np.isinf(values) if self.missing == "nan" else ~np.isfinite(values)
        if faulty.any() or (self.lowest is not None and (values < self.lowest).any()):
            raise self._fault(batch)
        return values

    def _bare(self, text: bytes) -> bytes:
        """The cells without blanks and quotation marks around them."""
        return self.delimiter.join(cell.strip(b' "') for cell in text.split(self.delimiter))

    def _column(self, text: bytes) -> pl.Series:
        """The cells of a text one below the other; null where one is empty."""
        gaps = self.gaps
        try:
            return pl.read_csv(
                text,
                has_header=False,
                schema={"value": pl.Float32},
                separator="\x1f",
                eol_char=self.delimiter.decode(),
                quote_char=None,
                null_values=list(gaps) or None,
            )["value"]
        except pl.exceptions.PolarsError:
            # every word for a missing value slows polars down, so only those that occurred are given to it
            cells = self.delimiter + text
            found = {word for word in MISSING if word.encode().join([self.delimiter] * 2) in cells}
            if self.missing == "refuse" or found <= gaps:
                raise
            self.gaps = gaps | found
            return self._column(text)

    def _fault(self, batch: Sequence[_Row]) -> ValueError:
        """The first cell that is not what it should be, found one by one."""
        for row in batch:
            for sample, cell in zip(self.samples, row.cells.split(self.delimiter), strict=True):
                if not self._sound(text := cell.decode("utf-8", errors="replace")):
                    least = "" if self.lowest is None else f" of at least {self.lowest:g}"
                    gap = " or a missing value" if self.missing == "nan" else ""
                    names = self.id_columns == 1 and sample == self.samples[0]
                    hint = " If that column names the genes, set `id_columns: 2`." if names else ""
                    if self.decimal == "." and self._sound(text.replace(",", ".", 1)):
                        hint = " If commas are decimal signs, set `decimal: ','` in the options of the cohort."
                    if _THOUSANDS.fullmatch(text):
                        hint = f" If commas separate thousands, remove them.{hint}"
                    elif _NUMBER.fullmatch(row.gene) and re.search("[A-Za-z]{2}", text):
                        hint = f" If {sample!r} names the genes, make it the first column; or remove it."
                    return ValueError(
                        f"{self.path}, line {row.number}: expected a finite number{least}{gap} for gene {row.gene}, "
                        f"sample {sample}, found {text!r}. Mend the cell, or fetch the file again.{hint}"
                    )
        return ValueError(f"{self.path}, lines {batch[0].number} to {batch[-1].number}: the values cannot be parsed.")

    def _sound(self, cell: str) -> bool:
        cell = cell.strip(' "')
        if self.missing == "nan" and cell in MISSING:
            return True
        cell = cell.replace(self.decimal, ".")
        lowest = -LARGEST if self.lowest is None else self.lowest
        return _NUMBER.fullmatch(cell) is not None and lowest <= float(cell) <= LARGEST


def _wanted_samples(path: Path, samples: list[str], keep: Callable[[str], bool] | None, on_repeated: str) -> list[int]:
    """Positions of the value columns that are wanted."""
    if "" in samples:
        last = " Does every line end with a separator? Remove it." if samples.index("") == len(samples) - 1 else ""
        raise ValueError(f"{path}: value column {samples.index('') + 1} of {len(samples)} has no sample name.{last}")
    repeated = [sample for sample, count in Counter(samples).items() if count > 1]
    if repeated and on_repeated == "refuse":
        raise ValueError(
            f"{path}: {len(repeated)} samples have several columns: {', '.join(repeated[:10])}. Remove the copies."
        )
    if repeated:
        logger.warning("%s: %d samples have several columns: %s", path.name, len(repeated), ", ".join(repeated[:10]))
    columns = [i for i, sample in enumerate(samples) if keep is None or keep(sample)]
    if not columns:
        raise ValueError(
            f"none of the {len(samples)} samples of {path}, such as {samples[:3]}, is wanted. "
            "Do the matrix and the sample table belong together?"
        )
    if on_repeated == "first":
        columns = sorted({samples[i]: i for i in reversed(columns)}.values())
    return columns


def text_blocks(path: Path, advance: Callable[[int], None] = lambda position: None) -> Iterator[bytes]:
    """The text of a file, plain or gzip, in pieces of whole lines.

    Raises:
        ValueError: if the gzip stream is cut off or broken, or the file is of another format.
    """
    with path.open("rb") as file:
        head = file.read(2)
        file.seek(0)
        rest: list[bytes] = []
        for piece in _inflated(path, file) if head.startswith(_GZIP) else iter(lambda: file.read(BLOCK), b""):
            if not rest:
                refuse_foreign(path, piece)
            advance(file.tell())
            stop = piece.rfind(b"\n") + 1
            if stop:
                yield b"".join([*rest, piece[:stop]])
                rest = []
            rest.append(piece[stop:])
        if last := b"".join(rest):
            yield last


def _inflated(path: Path, file: BinaryIO) -> Iterator[bytes]:
    """The text of a gzip file, of one member or of several, in pieces of bounded size."""
    member = zlib.decompressobj(wbits=31)
    try:
        while compressed := file.read(BLOCK // 2):
            while compressed:
                if member.eof:
                    compressed = compressed.lstrip(b"\0")  # tapes pad
                    if not compressed:
                        break
                    member = zlib.decompressobj(wbits=31)
                yield member.decompress(compressed, BLOCK)
                compressed = member.unused_data if member.eof else member.unconsumed_tail
    except zlib.error as error:
        raise ValueError(f"{path} is not a sound gzip file ({error}). Fetch the file again.") from error
    if not member.eof:
        raise ValueError(f"{path} is truncated: the gzip stream ends too early. Fetch the file again.")


def _ahead(blocks: Iterator[bytes], depth: int = 2) -> Generator[bytes]:
    """The same blocks, read by another thread while the last one is used."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = deque(pool.submit(next, blocks, b"") for _ in range(depth))
        while block := pending.popleft().result():
            pending.append(pool.submit(next, blocks, b""))
            yield block


def text_lines(blocks: Iterable[bytes]) -> Iterator[Line]:
    """Every line of ``text_blocks``, without its end, which may be that of Windows."""
    number = 0
    for block in blocks:
        start = 0
        while start < len(block):
            end = block.find(b"\n", start)
            end = len(block) if end < 0 else end
            number += 1
            yield Line(number, block, start, end - block.startswith(b"\r", end - 1))
            start = end + 1


def _count(line: Line, delimiter: bytes) -> int:
    """How many cells a line has."""
    length = line.stop - line.start
    if length < LONG:
        return line.block.count(delimiter, line.start, line.stop) + 1
    return int(np.count_nonzero(np.frombuffer(line.block, np.uint8, length, line.start) == delimiter[0])) + 1


def _text(path: Path, line: Line | None) -> str:
    if line is None:
        raise ValueError(f"{path} is empty, or ends before its header. Fetch the file again.")
    return _decoded(path, line.number, line.block[line.start : line.stop]).removeprefix("\ufeff")


def _decoded(path: Path, number: int, text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, line {number} is not UTF-8 ({error.reason}): {text[:40]!r}. Save the file as UTF-8."
        ) from error


def _unquoted(cell: str) -> str:
    return cell[1:-1] if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell
