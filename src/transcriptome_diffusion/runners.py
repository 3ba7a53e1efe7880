"""The runner of ``kedro run``: several nodes at a time, each in a process with one thread."""

from __future__ import annotations

import logging
import os
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from typing import Any

from kedro.pipeline import Pipeline
from kedro.runner import ParallelRunner, SequentialRunner

logger = logging.getLogger(__name__)

#: the parameter that says how many
PARAMETER = "params:workers"
#: what a process may take of the memory that is available, in bytes, where the number of processes is `auto`
PER_WORKER = 3e9
#: read by the libraries that start threads, when they are loaded
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class WorkersRunner(ParallelRunner):
    """Kedro's ``ParallelRunner`` with as many processes as the parameter ``workers`` says.

    ``auto`` is a process for every core, as far as there are 3 GB of memory for each. With one process, or one node at
    a time, nodes run in this process and use all threads. Processes are started afresh, since a copy of this one would
    keep its number of threads: threads of small products wait for each other more than they work.
    """

    def run(self, pipeline: Pipeline, catalog: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run the pipeline; the number of processes is a parameter of the run, and so is read here.

        Raises:
            ValueError: if the parameter is neither `auto` nor a positive whole number.
        """
        workers = count_workers(catalog.load(PARAMETER) if PARAMETER in catalog else "auto")
        self._max_workers = min(self._max_workers, workers)
        if self._get_required_workers_count(pipeline) < 2:
            return SequentialRunner(is_async=self._is_async).run(pipeline, catalog, *args, **kwargs)
        logger.info("Up to %d nodes at a time, each in a process of its own (parameter `workers`)", self._max_workers)
        with ExitStack() as stack:
            before = {name: os.environ.get(name) for name in THREADS}
            stack.callback(_restore, before)
            os.environ.update(dict.fromkeys(THREADS, "1"))
            return super().run(pipeline, catalog, *args, **kwargs)

    def _get_executor(self, max_workers: int) -> Executor:
        context = get_context(os.environ.get("KEDRO_MP_CONTEXT", "spawn"))
        return ProcessPoolExecutor(max_workers, mp_context=context, initializer=_read_settings)


def _read_settings() -> None:
    """Read the project's settings in a process of the run, which Kedro 1.7 does not."""
    from kedro.framework.project import settings

    settings.configure(f"{__name__.partition('.')[0]}.settings")


def count_workers(workers: Any) -> int:
    """The number of processes that the parameter ``workers`` means on this machine.

    Raises:
        ValueError: if it is neither `auto` nor a positive whole number.
    """
    if workers == "auto":
        from transcriptome_diffusion.memory import available_memory

        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        memory = available_memory()
        return max(1, cores if memory is None else min(cores, int(memory // PER_WORKER)))
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ValueError(f"`workers` is {workers!r}; expected `auto` or the number of processes, 1 or more.")
    return workers


def _restore(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
