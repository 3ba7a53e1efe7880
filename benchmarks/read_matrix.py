"""Reading one expression matrix: our reader, pandas, and the floor (getting at the text).

Usage: python benchmarks/read_matrix.py MATRIX [GENE_MODEL]

MATRIX is a GCT file, or a table with one id column, plain or gzip; GENE_MODEL, a GTF file, cuts it to coding genes.
``full_size.py`` makes both. Every way runs in a process of its own, and its peak is that of the process, libraries
included.
"""

from __future__ import annotations

import gzip
import multiprocessing
import resource
import sys
import time
from pathlib import Path

from transcriptome_diffusion.cohorts.gene_models import coding_genes
from transcriptome_diffusion.cohorts.tables import read_gct, read_matrix
from transcriptome_diffusion.expression.identifiers import is_par_y, without_version


def ours(path: Path, model: Path | None) -> tuple[int, ...]:
    keep = None
    if model is not None:
        coding = coding_genes(model)
        keep = lambda gene: not is_par_y(gene) and without_version(gene) in coding  # noqa: E731
    read = read_gct if ".gct" in path.name else read_matrix
    return read(path, keep=keep, missing="nan").values.shape


def ours_every_gene(path: Path, model: Path | None) -> tuple[int, ...]:
    return ours(path, None)


def with_pandas(path: Path, model: Path | None) -> tuple[int, ...]:
    """What a user would write; float64, genes in rows, and no gene left out."""
    import pandas as pd

    return pd.read_csv(path, sep="\t", skiprows=2 if ".gct" in path.name else 0, index_col=0).shape


def floor(path: Path, model: Path | None) -> tuple[int, ...]:
    size = 0
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        while block := file.read(1 << 20):
            size += len(block)
    return (size,)


def measured(way: str, path: Path, model: Path | None) -> tuple[list[float], tuple[int, ...]]:
    """Seconds on the clock, seconds of processors, GiB at the peak; and what came out."""
    started, used = time.perf_counter(), time.process_time()
    shape = globals()[way](path, model)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return [time.perf_counter() - started, time.process_time() - used, peak], shape


def main(path: Path, model: Path | None) -> None:
    ways = ["ours", *(["ours_every_gene"] if model else []), "with_pandas", "floor"]
    first: list[float] = []
    print(f"{'':<16}{'seconds':>16}{'processor':>16}{'peak, GiB':>16}")
    for way in ways:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found, shape = pool.apply(measured, (way, path, model))
        first = first or found
        cells = "".join(f"{value:9.2f} x{value / one:5.2f}" for value, one in zip(found, first, strict=True))
        print(f"{way:<16}{cells}   {' x '.join(map(str, shape))}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
