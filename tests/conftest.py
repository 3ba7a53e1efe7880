"""Fixtures shared by the whole suite."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import sys
from collections.abc import Iterator
from importlib.util import find_spec
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


@pytest.fixture(scope="session", autouse=True)
def files_of_parameters_are_parsed_once() -> Iterator[None]:
    """Every run and every look at conf/ would parse the same twenty files again, and look for a library in vain."""
    from omegaconf import OmegaConf

    parsed: dict[str, bytes] = {}
    load = OmegaConf.load

    def load_once(file: Any) -> Any:
        text = file.read() if hasattr(file, "read") else Path(file).read_text(encoding="utf-8")
        if text not in parsed:
            parsed[text] = pickle.dumps(load(io.StringIO(text)))
        return pickle.loads(parsed[text])  # noqa: S301

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OmegaConf, "load", staticmethod(load_once))
        if find_spec("ibis") is None:
            patch.setitem(sys.modules, "ibis", None)  # Kedro tries to import it for every parameter
        yield


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
