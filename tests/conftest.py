"""Fixtures shared by the whole suite."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:
    # before numpy and torch are there, and for the command lines that tests start: a worker is one core's
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

PROJECT = Path(__file__).resolve().parents[1]
RNASEQDB = Path("rnaseqdb") / "normalized"


#: files that take longest; whoever gets one last would keep the others waiting
LONGEST = (
    *("test_end_to_end.py", "test_sites.py", "test_contract.py", "test_rnaseqdb.py", "test_memory.py"),
    *("test_own_cohort.py", "test_api.py", "test_pages.py", "test_augmentation_pipeline.py", "test_tuning.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


#: imported by the process of which those of the fixture are copies
PREPARED = [
    *("distributed", "kedro.framework.cli.cli", "kedro_datasets.pandas", "kedro_datasets.plotly"),
    *("transcriptome_diffusion.datasets", "transcriptome_diffusion.training"),
    *("transcriptome_diffusion.generators.vae", "transcriptome_diffusion.metrics.scores"),
]


@pytest.fixture
def forkserver(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A context of processes that have imported what trains and scores, which takes seconds; with one thread each."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PREPARED)
    return context


@pytest.fixture(scope="session")
def project() -> Path:
    """The root of this checkout."""
    return PROJECT


@pytest.fixture(scope="session")
def rnaseqdb_folder() -> Path:
    """The real cohort's folder: $RNASEQDB_DIR, data/01_raw, or a ``data`` folder beside the checkout."""
    candidates = [PROJECT / "data" / "01_raw" / RNASEQDB, *sorted(PROJECT.parent.glob(f"*/data/{RNASEQDB}"))]
    if "RNASEQDB_DIR" in os.environ:
        candidates.insert(0, Path(os.environ["RNASEQDB_DIR"]))
    for folder in candidates:
        if any(folder.glob("*-rsem-fpkm-*.txt.gz")):
            return folder
    pytest.skip(
        "SKIPPED FOR LACK OF DATA: the RNAseqDB cohort was not found; "
        "set RNASEQDB_DIR to the folder with its *-rsem-fpkm-*.txt.gz files"
    )
