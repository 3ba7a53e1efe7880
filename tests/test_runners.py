"""The number of processes of a run, and what they may do with threads."""

from __future__ import annotations

import os
import signal
from functools import partial
from multiprocessing.forkserver import _forkserver
from pathlib import Path

import numpy as np
import pytest
from kedro.io import AbstractDataset, DataCatalog, MemoryDataset, SharedMemoryDataCatalog
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner
from kedro_datasets.json import JSONDataset

from transcriptome_diffusion import memory, runners
from transcriptome_diffusion.runners import THREADS, DaskRunner, LostProcessError, WorkersRunner, count_workers, each


@pytest.fixture(autouse=True, scope="module")
def few_libraries():
    """Nodes of these tests need few; other tests of this process get a server of theirs."""
    running = _forkserver._forkserver_pid is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runners, "PRELOADED", ("kedro.framework.session",))
        patch.setenv("KEDRO_MP_CONTEXT", "forkserver")
        yield
    if not running:
        _forkserver._stop()


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "all", None])
def test_a_number_that_is_none_is_named(wrong):
    with pytest.raises(ValueError, match=r"`workers` is .*; expected `auto` or the number of processes"):
        count_workers(wrong)


@pytest.mark.parametrize(("gigabytes", "expected"), [(100, 4), (7, 2), (1, 1), (None, 4)])
def test_auto_is_one_per_core_as_far_as_memory_allows(monkeypatch, gigabytes, expected):
    monkeypatch.setattr(runners.os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    monkeypatch.setattr(memory, "available_memory", lambda: None if gigabytes is None else 1e9 * gigabytes)
    assert count_workers("auto") == expected
    assert count_workers(3) == 3


def threads(_: int) -> tuple[int, int, dict[str, str | None]]:
    return os.getpid(), os.getppid(), {name: os.environ.get(name) for name in THREADS}


def independent(n: int) -> Pipeline:
    return Pipeline([Node(threads, "x", f"y{i}", name=f"node_{i}") for i in range(n)])


def test_one_process_runs_nodes_in_this_one_with_all_its_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    catalog = DataCatalog({"x": MemoryDataset(1), "params:workers": MemoryDataset(1)})
    found = WorkersRunner().run(independent(2), catalog)
    for output in found.values():
        process, _, variables = output.load()
        assert process == os.getpid()
        assert variables["OMP_NUM_THREADS"] is None
    expected = SequentialRunner().run(independent(2), DataCatalog({"x": MemoryDataset(1)}))
    assert set(found) == set(expected)


def test_several_processes_have_one_thread_each_and_leave_the_variables_of_this_one(monkeypatch):
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    catalog = SharedMemoryDataCatalog({"x": MemoryDataset(1), "params:workers": MemoryDataset(2)})
    runner = WorkersRunner(max_workers=2)  # it holds what passes between processes
    for output in runner.run(independent(2), catalog).values():
        process, parent, variables = output.load()
        assert process != os.getpid()
        assert parent != os.getpid()  # a copy of one that has imported the libraries
        assert variables == dict.fromkeys(THREADS, "1")
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def add(x: int, y: int = 0) -> int:
    return x + y


def die_once(mark: str) -> int:
    """Is killed when it runs for the first time."""
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 5


def die(_: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def too_large(_: int) -> int:
    return len(np.empty((10**7, 10**8)))


def fail(_: int) -> int:
    raise ValueError("no such tissue")


def stored(folder: Path, *names: str) -> dict[str, AbstractDataset]:
    return {name: JSONDataset(filepath=str(folder / f"{name}.json")) for name in names}


def test_what_ran_in_a_killed_process_runs_again_and_a_node_that_is_killed_alone_is_named(tmp_path, caplog):
    nodes = [
        Node(die_once, "mark", "a", name="unlucky"),
        Node(add, ["x", "x"], "b", name="beside"),
        Node(add, ["a", "b"], "c", name="last"),
        Node(die, "c", "d", name="hungry"),
        Node(add, "d", "e", name="never"),
        Node(fail, "b", "f", name="wrong"),
        Node(too_large, "x", "g", name="large"),
    ]
    inputs = {"mark": str(tmp_path / "mark"), "x": 1, "params:workers": 2}
    memory = {name: MemoryDataset(value) for name, value in inputs.items()}
    catalog = SharedMemoryDataCatalog({**memory, **stored(tmp_path, *"abcdefg")})
    with pytest.raises((LostProcessError, ValueError, MemoryError)):
        WorkersRunner(max_workers=2).run(Pipeline(nodes), catalog)
    assert catalog.load("c") == 7
    assert "Again, with 1 at a time (`workers`): " in caplog.text
    assert "Node wrong failed: ValueError: no such tissue" in caplog.text
    assert "the process of hungry was killed, as the system does when memory runs out, although it ran alone" in (
        caplog.text
    )
    assert "large ran out of memory. Lower `workers`. Stages of all genes are made smaller by" in caplog.text
    assert not (tmp_path / "e.json").exists()


def times_ten(x: int) -> int:
    return 10 * x


def split(x: int) -> list[int]:
    return each([partial(times_ten, i) for i in range(x)])


def test_a_dask_cluster_runs_nodes_and_their_parts_and_names_the_node_that_fails(tmp_path, caplog):
    distributed = pytest.importorskip("distributed")
    catalog = DataCatalog({"x": MemoryDataset(3), **stored(tmp_path, "z")})
    nodes = [
        Node(split, "x", "y", name="box.fit"),
        Node(sum, "y", "z", name="draw_sum"),
        Node(fail, "y", "f", name="box.wrong"),
    ]
    with (
        distributed.LocalCluster(
            1, threads_per_worker=1, processes=False, resources={"GPU": 1}, dashboard_address=None
        ) as cluster,
        pytest.raises(ValueError, match="no such tissue"),
    ):
        DaskRunner(address=cluster.scheduler_address, gpu=True).run(Pipeline(nodes), catalog)
    assert catalog.load("z") == 30
    assert "Node box.wrong failed: ValueError: no such tissue" in caplog.text
    assert split(2) == [0, 10]
    with pytest.raises(OSError, match=r"tcp://127\.0\.0\.1:1"), dask_patience("1s"):
        DaskRunner(address="tcp://127.0.0.1:1").run(Pipeline(nodes), catalog)


def dask_patience(seconds: str):
    import dask

    return dask.config.set({"distributed.comm.timeouts.connect": seconds})
