"""The number of processes of a run, and what they may do with threads."""

from __future__ import annotations

import os

import pytest
from kedro.io import DataCatalog, MemoryDataset, SharedMemoryDataCatalog
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner

from transcriptome_diffusion import memory, runners
from transcriptome_diffusion.runners import THREADS, WorkersRunner, count_workers


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


def threads(_: int) -> tuple[int, dict[str, str | None]]:
    return os.getpid(), {name: os.environ.get(name) for name in THREADS}


def independent(n: int) -> Pipeline:
    return Pipeline([Node(threads, "x", f"y{i}", name=f"node_{i}") for i in range(n)])


def test_one_process_runs_nodes_in_this_one_with_all_its_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    catalog = DataCatalog({"x": MemoryDataset(1), "params:workers": MemoryDataset(1)})
    found = WorkersRunner().run(independent(2), catalog)
    for output in found.values():
        process, variables = output.load()
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
        process, variables = output.load()
        assert process != os.getpid()
        assert variables == dict.fromkeys(THREADS, "1")
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ
