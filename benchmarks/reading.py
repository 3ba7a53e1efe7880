"""Reading an expression matrix in the format of GTEx, a thirty-fifth of its size: pandas, and getting at the text.

Ours keeps the coding genes, a third; pandas cannot leave genes out by name while it reads.
"""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

from benchmarks import full_size
from benchmarks.measure import Row, measure

GENES, SAMPLES = 7000, 4000


def decompress(path: Path) -> None:
    with gzip.open(path) as file:
        while file.read(1 << 20):
            pass


def rows(device: str) -> list[Row]:
    import pandas as pd

    from transcriptome_diffusion.cohorts.gene_models import coding_genes
    from transcriptome_diffusion.cohorts.tables import read_gct
    from transcriptome_diffusion.expression.identifiers import is_par_y, without_version

    with tempfile.TemporaryDirectory() as folder:
        full_size.write_gtex(Path(folder), GENES, SAMPLES)
        path, coding = Path(folder) / full_size.GTEX_MATRIX, coding_genes(Path(folder) / full_size.GTEX_MODEL)

        def ours() -> None:
            read_gct(path, keep=lambda gene: not is_par_y(gene) and without_version(gene) in coding)

        calls = {
            "ours": ours,
            "`pandas.read_csv`": lambda: pd.read_csv(path, sep="\t", skiprows=2, index_col=0),
            "decompression alone": lambda: decompress(path),
        }
        costs = measure(calls, 1)
    name = f"coding genes of {GENES:,} x {SAMPLES:,} values, gz"
    return [Row(name, costs["ours"], rival, costs[rival]) for rival in list(calls)[1:]]
