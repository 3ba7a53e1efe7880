"""Time and peak memory of `kedro run --pipelines reconstruction` at the size of GTEx.

Usage: python benchmarks/reconstruction_pipeline.py [TRAIN] [VALIDATION] [TARGETS] [FOLDER]

Simulated profiles as in benchmarks/reconstruction.py; every generator has the landmarks of fresh donors of the same
population. Results, at the size of GTEx 19 GB, stay in FOLDER (by default a temporary folder, removed at the end).
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from reconstruction import simulate
from transcriptome_diffusion.generators.registry import GENERATOR_NAMES

PROJECT = Path(__file__).resolve().parents[1]


def prepare(folder: Path, train: int, validation: int, targets: int) -> None:
    """Everything the pipeline reads, and a configuration whose environment `benchmark` points at it."""
    shutil.copytree(PROJECT / "conf", folder / "conf", dirs_exist_ok=True)
    (folder / "conf" / "benchmark").mkdir(exist_ok=True)
    settings = {"data_root": str(folder / "data"), "environment": "benchmark", "unit": "log2(FPKM + 1)"}
    (folder / "conf" / "benchmark" / "globals.yml").write_text(yaml.safe_dump(settings))
    for seed, (split, profiles) in enumerate({"train": train, "validation": validation}.items()):
        landmarks, whole = simulate(profiles, targets, seed)
        write(whole, folder / "data" / "03_primary" / f"expression_{split}.h5ad")
        write(landmarks, folder / "data" / "04_feature" / f"landmarks_{split}.h5ad")
    for seed, name in enumerate(GENERATOR_NAMES, start=2):
        landmarks, _ = simulate(train, 0, seed)
        write(landmarks, folder / "data" / "07_model_output" / name / "landmark_profiles.h5ad")


def write(profiles, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    profiles.obs["study"] = "simulated"
    profiles.var = profiles.var.assign(entrez_id="", ensembl_id="", is_landmark=False)
    profiles.write_h5ad(path)


def main(train: int = 9600, validation: int = 2400, targets: int = 17_722, folder: str | None = None) -> None:
    place = Path(folder or tempfile.mkdtemp(prefix="reconstruction_"))
    try:
        prepare(place, train, validation, targets)
        command = [sys.executable, "-m", "kedro", "run", "--pipelines", "reconstruction", "--env", "benchmark"]
        start = time.perf_counter()
        subprocess.run([*command, "--conf-source", str(place / "conf")], cwd=PROJECT, check=True)
        taken = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        data = (train + validation) * (targets + 978) * 4 / 1e9
        size = f"{train} + {validation} profiles x {targets + 978} genes, {data:.2f} GB"
        print(f"{size}: {taken:.0f} s, peak {peak:.2f} GB")
    finally:
        if folder is None:
            shutil.rmtree(place)


if __name__ == "__main__":
    main(*(int(value) if value.isdigit() else value for value in sys.argv[1:]))
