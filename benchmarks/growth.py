"""How seconds and memory grow with the number of profiles, from the file of a cohort to the scores of a generator.

Usage: python benchmarks/growth.py FOLDER [SAMPLES ...]    (by default 1000 10000 100000)

Files in the layout of ARCHS4 with the 978 landmark genes are made in FOLDER (``full_size.py``). Every stage runs in a
process of its own on one thread: ``ingestion`` reads the file, splits by series and writes landmark profiles;
``training`` prepares the denoiser's coordinates and takes 200 steps; ``sampling`` draws as many profiles as there are
for training, with 10 steps of DDIM; ``reference`` measures the real profiles and ``scoring`` the drawn ones, on
landmarks. Writes ``growth.csv`` and ``growth.png`` to FOLDER.
"""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

STAGES = ("ingestion", "training", "sampling", "reference", "scoring")
SPLITS = ("train", "validation", "test")
STEPS = 200


def profiles(folder: Path, name: str) -> Any:
    """The dataset as the catalog has it."""
    from transcriptome_diffusion.datasets import AnnDataDataset

    return AnnDataDataset(filepath=str(folder / f"{name}.h5ad"))


def ingestion(folder: Path) -> None:
    from benchmarks.full_size import TISSUES
    from transcriptome_diffusion.cohorts.archs4 import read_archs4
    from transcriptome_diffusion.cohorts.options import ARCHS4Options
    from transcriptome_diffusion.expression.landmarks import load_panel
    from transcriptome_diffusion.expression.options import IngestionOptions, LandmarkOptions, SplitOptions
    from transcriptome_diffusion.pipelines.feature_landmarks.nodes import select_landmarks
    from transcriptome_diffusion.pipelines.ingestion.nodes import filter_genes, prepare_cohort, split_samples

    words = {tissue: [tissue] for tissue, samples in TISSUES.items() if samples > 80}
    raw = read_archs4(next(folder.glob("human_gene*.h5")), ARCHS4Options(words=words, most_per_class=None))
    options = IngestionOptions(label="tissue", min_samples_per_tissue=30)
    cohort = prepare_cohort(raw, options)
    del raw
    split, _ = split_samples(cohort, SplitOptions())
    *parts, panel = filter_genes(cohort, split, load_panel(), options)
    del cohort
    for name, part in zip(SPLITS, parts, strict=True):
        profiles(folder, name).save(select_landmarks(part, panel, LandmarkOptions()))


def training(folder: Path) -> None:
    from transcriptome_diffusion import training
    from transcriptome_diffusion.generators.diffusion.model import Diffusion
    from transcriptome_diffusion.generators.options import DiffusionOptions

    steps = {"max_steps": STEPS, "validate_every": STEPS, "batch_size": 256, "weight_decay": 0.01}
    options = {"marginal_map": False, "training": steps, "network": {"width": 256, "depth": 3, "dropout": 0.1}}
    fit, seconds = training.fit, []

    def timed(*arguments: Any, **more: Any) -> Any:
        started = time.process_time()
        found = fit(*arguments, **more)
        seconds.append(time.process_time() - started)
        return found

    training.fit = timed
    chosen = DiffusionOptions.model_validate(options)
    model = Diffusion.fit(profiles(folder, "train").load(), profiles(folder, "validation").load(), chosen)
    model.save(folder / "model")
    print(f"steps {seconds[0]}")


def sampling(folder: Path) -> None:
    from transcriptome_diffusion.generators.options import SamplerOptions
    from transcriptome_diffusion.generators.registry import load_generator

    model = load_generator(folder / "model")
    profiles(folder, "drawn").save(
        model.sample(profiles(folder, "train").load().obs, sampler=SamplerOptions(name="ddim", steps=10))
    )


def reference(folder: Path) -> None:
    from transcriptome_diffusion.metrics.options import EvaluationOptions
    from transcriptome_diffusion.metrics.reference import SPACES, EvaluationReference, SpaceReference

    space = SpaceReference.fit({name: profiles(folder, name).load() for name in SPLITS}, {}, EvaluationOptions())
    EvaluationReference(None, dict.fromkeys(SPACES, space)).save(folder / "reference")


def scoring(folder: Path) -> None:
    from transcriptome_diffusion.metrics.options import EvaluationOptions
    from transcriptome_diffusion.metrics.reference import EvaluationReference
    from transcriptome_diffusion.metrics.scores import score_generator

    real = EvaluationReference.load(folder / "reference")
    score_generator("drawn", profiles(folder, "drawn").load(), {}, real, EvaluationOptions())


def measured(stage: str, folder: Path) -> list[tuple[str, float, float]]:
    """Rows of stage, seconds of the processor, and peak memory in MB, of one stage in a new process."""
    environment = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, __file__, stage, str(folder)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    words = done.stdout.split()
    peak = float(words[-1])
    step = [(f"{STEPS} steps of it", float(words[1]), peak)] if words[0] == "steps" else []
    return [(stage, taken, peak), *step]


def figure(table: Any, path: Path) -> None:
    """Seconds and memory against the number of profiles, both on logarithmic scales."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    _, sides = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, column, title in zip(sides, ("seconds", "MB"), ("seconds of one core", "peak memory in MB"), strict=True):
        for stage, rows in table.groupby("stage", sort=False):
            axis.loglog(rows["samples"], rows[column], "o-", label=stage)
        axis.set(xlabel="profiles in the file", title=title)
        axis.grid(alpha=0.3)
    sides[0].legend(frameon=False, fontsize=8)
    pyplot.savefig(path, dpi=120)


def main(folder: Path, *sizes: int) -> None:
    import pandas as pd

    from benchmarks.full_size import write_archs4

    rows = []
    for size in sizes or (1000, 10_000, 100_000):
        (place := folder / str(size)).mkdir(parents=True, exist_ok=True)
        if not list(place.glob("human_gene*.h5")):
            write_archs4(place, 978, size)
        for stage in STAGES:
            for row in measured(stage, place):
                rows.append((size, *row))
                print("{:>7} {:14} {:9.4f} s {:6.0f} MB".format(*rows[-1]), flush=True)
    table = pd.DataFrame(rows, columns=["samples", "stage", "seconds", "MB"])
    table.to_csv(folder / "growth.csv", index=False, float_format="%.4g")
    figure(table, folder / "growth.png")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    if sys.argv[1] in STAGES:
        logging.disable(logging.WARNING)
        globals()[sys.argv[1]](Path(sys.argv[2]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
    else:
        main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
