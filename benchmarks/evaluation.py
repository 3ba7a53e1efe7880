"""What the scorecard of one generator costs: its landmark row, its privacy, and each of its transcriptome rows.

Usage: python benchmarks/evaluation.py RESULTS [GENERATOR]

RESULTS is the data root of a finished run, for instance ``data/rnaseqdb``. Files are read beforehand; yardsticks, which
all rows share, are timed apart. Default settings of the evaluation.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import anndata as ad

from transcriptome_diffusion.generators.registry import TRANSCRIPTOMES
from transcriptome_diffusion.metrics.options import EvaluationOptions
from transcriptome_diffusion.pipelines.evaluation import nodes

OPTIONS = EvaluationOptions(neighbours={"landmarks": 10, "transcriptome": 50})
SPLITS = ("train", "validation", "test")


def timed(what: str, call: Any, *inputs: Any) -> Any:
    started, used = time.perf_counter(), time.process_time()
    found = call(*inputs)
    print(
        f"{what:<32}{time.perf_counter() - started:8.1f} s{time.process_time() - used:10.1f} s of processors",
        flush=True,
    )
    return found


def main(root: Path, generator: str) -> None:
    sizes = {"landmarks": root / "04_feature" / "landmarks", "transcriptome": root / "03_primary" / "expression"}
    for space, prefix in sizes.items():
        real = [ad.read_h5ad(f"{prefix}_{split}.h5ad") for split in SPLITS]
        print(f"{space}: {' / '.join(str(len(part)) for part in real)} real profiles x {real[0].n_vars} genes")
        yardsticks = timed("  yardsticks, once for all rows", nodes.fit_yardsticks, *real[:2], OPTIONS)
        folder = root / "07_model_output" / generator
        if space == "landmarks":
            profiles = ad.read_h5ad(folder / "landmark_profiles.h5ad")
            timed("  scorecard row", nodes.scoring(generator, space, ""), *real, yardsticks, {}, OPTIONS, profiles)
            timed("  privacy", nodes.scoring_privacy(generator), *real, yardsticks, OPTIONS, profiles)
            continue
        for name, way in TRANSCRIPTOMES:
            if name == generator:
                profiles = ad.read_h5ad(folder / way / "transcriptome_profiles.h5ad")
                timed(f"  row by {way}", nodes.scoring(name, space, way), *real, yardsticks, {}, OPTIONS, profiles)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "ddim")
