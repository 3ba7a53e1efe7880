"""Reading the RNAseqDB cohort: our reader, pandas, and the floor (decompressing the files).

Usage: python benchmarks/load_rnaseqdb.py FOLDER [REPEATS]
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import pandas as pd
from _timing import in_turn, show

from transcriptome_diffusion.cohorts.readers import read_cohort


def with_pandas(files: list[Path]) -> pd.DataFrame:
    """What a user would write: read every file, intersect the genes, put the samples side by side."""
    tables = [pd.read_csv(file, sep="\t").set_index("Hugo_Symbol").drop(columns="Entrez_Gene_Id") for file in files]
    return pd.concat(tables, axis=1, join="inner").T.astype("float32")


def main(folder: Path, repeats: int) -> None:
    files = sorted(folder.glob("*-rsem-fpkm-*.txt.gz"))
    show(
        in_turn(
            {
                "our reader (checks included)": lambda: read_cohort("rnaseqdb", folder, {}),
                "pandas.read_csv, concat": lambda: with_pandas(files),
                "floor: decompress": lambda: [gzip.decompress(file.read_bytes()) for file in files],
            },
            repeats,
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
