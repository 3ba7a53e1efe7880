"""The runners: several nodes at a time, in processes of this machine with one thread each, or on a Dask cluster.

After a failure, nodes that do not need what failed still run; the run ends with the error.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack
from contextvars import ContextVar
from itertools import chain
from multiprocessing import get_context
from typing import Any
from uuid import uuid4

from kedro.framework.hooks.manager import _NullPluginManager
from kedro.io import AbstractDataset, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner import AbstractRunner, ParallelRunner, SequentialRunner
from kedro.runner.parallel_runner import ParallelRunnerManager
from kedro.runner.task import Task

from transcriptome_diffusion.checkpoints import end_with_parent
from transcriptome_diffusion.memory import SMALLER

logger = logging.getLogger(__name__)

#: the parameter that says how many
PARAMETER = "params:workers"
#: what a process may take of the memory that is available, in bytes, where the number of processes is `auto`
PER_WORKER = 3e9
#: read by the libraries that start threads, when they are loaded
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
PACKAGE = __name__.partition(".")[0]
#: what takes seconds to import; this package is not among it, since it may change between the runs of a notebook
PRELOADED = (
    *("anndata", "lightning.pytorch", "scipy.stats", "sklearn.ensemble", "sklearn.linear_model", "torch"),
    *("kedro.framework.session", "kedro_datasets.pandas", "kedro_datasets.plotly"),
)


class LostProcessError(RuntimeError):
    """The process of a node ended without a result."""


class _TaskRunner(AbstractRunner):
    """Hands out nodes as soon as their inputs are there; a subclass says who works on them.

    Attributes:
        slots: how many nodes are handed out at a time.
    """

    slots: int

    def _submit(self, task: Task) -> Future[Any]:
        raise NotImplementedError

    def _after_loss(self, nodes: list[Node]) -> BaseException | None:
        """What comes of nodes whose process is gone: an error, or None if they are handed out again."""
        raise NotImplementedError

    def _run(self, pipeline: Pipeline, catalog: Any, hook_manager: Any = None, run_id: str | None = None) -> None:
        self._validate_catalog(catalog)
        self._validate_nodes(pipeline.nodes)
        self._set_manager_datasets(catalog)
        load_counts = Counter(chain.from_iterable(node.inputs for node in pipeline.nodes))
        needs, todo, done = pipeline.node_dependencies, list(pipeline.nodes), set[Node]()
        running: dict[Future[Any], Node] = {}
        failed: dict[Node, BaseException] = {}
        while True:
            for node in [node for node in todo if needs[node] <= done][: self.slots - len(running)]:
                todo.remove(node)
                running[self._submit(Task(node, catalog, self._is_async, None, run_id, parallel=True))] = node
            if not running:
                break
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            if any(isinstance(future.exception(), BrokenExecutor) for future in finished):
                finished, _ = wait(running)  # a pool that lost a process loses all
            outcome = [(running.pop(future), future.exception()) for future in finished]
            lost = [node for node, error in outcome if isinstance(error, BrokenExecutor)]
            if lost and (fate := self._after_loss(lost)) is None:
                outcome = [(node, error) for node, error in outcome if node not in lost]
                todo = lost + todo
            elif lost:
                outcome = [(node, fate if node in lost else error) for node, error in outcome]
            for node, error in outcome:
                if error is None:
                    done.add(node)
                    logger.info("Completed node: %s", node.name)
                    logger.info("Completed %d out of %d tasks", len(done), len(pipeline.nodes))
                    self._release_datasets(node, catalog, load_counts, pipeline)
                else:
                    failed[node] = error
                    logger.error("Node %s failed: %s: %s", node.name, type(error).__name__, error)
                    if isinstance(error, MemoryError):
                        logger.error("%s ran out of memory. Lower `workers`. %s", node.name, SMALLER)
        if failed:
            logger.error("Failed: %s. Not run: %d nodes.", ", ".join(node.name for node in failed), len(todo))
            self._suggest_resume_scenario(pipeline, done, catalog)
            raise next(iter(failed.values()))


class WorkersRunner(_TaskRunner, ParallelRunner):
    """Kedro's ``ParallelRunner`` with as many processes as the parameter ``workers`` says.

    ``auto`` is a process for every core, as far as there are 3 GB of memory for each. With one process, or one node at
    a time, nodes run in this process and use all threads. Processes are started afresh, since a copy of this one would
    keep its number of threads: threads of small products wait for each other more than they work. With the environment
    variable ``KEDRO_MP_CONTEXT`` = ``forkserver`` they are copies of a process that has imported ``PRELOADED`` and done
    nothing else: they start sooner, and trainings with large arrays take longer in them.

    Where the system kills a process, which it does when memory runs out, its nodes run again with half as many at a
    time. Processes end with the one that started them.
    """

    def __init__(self, max_workers: int | None = None, is_async: bool = False) -> None:
        AbstractRunner.__init__(self, is_async=is_async)
        self._manager = ParallelRunnerManager()
        self._manager.start(initializer=end_with_parent)
        self._max_workers = self._validate_max_workers(max_workers)

    def run(self, pipeline: Pipeline, catalog: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run the pipeline; the number of processes is a parameter of the run, and so is read here.

        Raises:
            ValueError: if the parameter is neither `auto` nor a positive whole number.
        """
        workers = count_workers(catalog.load(PARAMETER) if PARAMETER in catalog else "auto")
        self._max_workers = min(self._max_workers, workers)
        self.slots = self._get_required_workers_count(pipeline)
        if self.slots < 2:
            for name in pipeline.all_outputs():  # as a runner of several processes, it got a catalog that shares them
                if name not in catalog:
                    catalog[name] = MemoryDataset()
            return SequentialRunner(is_async=self._is_async).run(pipeline, catalog, *args, **kwargs)
        logger.info("Up to %d nodes at a time, each in a process of its own (parameter `workers`)", self._max_workers)
        with ExitStack() as stack:
            before = {name: os.environ.get(name) for name in THREADS}
            stack.callback(_restore, before)
            os.environ.update(dict.fromkeys(THREADS, "1"))
            self.pool = self._get_executor(self.slots)
            stack.callback(lambda: self.pool.shutdown())
            return super().run(pipeline, catalog, *args, **kwargs)

    def _get_executor(self, max_workers: int) -> Executor:
        context: Any = get_context(os.environ.get("KEDRO_MP_CONTEXT", "spawn"))
        if context.get_start_method() == "forkserver":
            context.set_forkserver_preload(list(PRELOADED))
        return ProcessPoolExecutor(max_workers, mp_context=context, initializer=_start_process)

    def _submit(self, task: Task) -> Future[Any]:
        try:
            return self.pool.submit(task)
        except BrokenExecutor as error:  # a process was lost while it had nothing to do
            found: Future[Any] = Future()
            found.set_exception(error)
            return found

    def _after_loss(self, nodes: list[Node]) -> BaseException | None:
        self.pool.shutdown()
        names, alone = ", ".join(node.name for node in nodes), self.slots == 1
        self.slots = max(self.slots // 2, 1)
        self.pool = self._get_executor(self.slots)
        why = "was killed, as the system does when memory runs out"
        if alone:
            return LostProcessError(
                f"the process of {names} {why}, although it ran alone. Take a machine with more memory. {SMALLER}"
            )
        logger.warning("A process %s. Again, with %d at a time (`workers`): %s", why, self.slots, names)
        return None


class DaskRunner(_TaskRunner):
    """Every node is a task of a Dask cluster, and so is every training of a node that repeats them.

    Workers need the same project folder and data, on a disk that all share, and the package installed. What passes
    between nodes in memory is kept by the scheduler. A task whose worker is lost is done again on another one. Needs
    the extra `cluster`.

    Args:
        address: of the scheduler, such as ``tcp://10.0.0.1:8786``; None starts a cluster on this machine, with as many
            processes as the parameter ``workers`` says.
        gpu: whether nodes that train or draw take one `GPU`, a resource that workers declare
            (``dask worker --resources GPU=1``).
    """

    def __init__(self, address: str | None = None, gpu: bool = False, is_async: bool = False) -> None:
        super().__init__(is_async=is_async)
        try:
            import distributed  # noqa: F401
        except ImportError as error:
            raise ImportError("DaskRunner needs Dask: pip install 'transcriptome-diffusion[cluster]'.") from error
        self.address, self.gpu = address, gpu

    def run(self, pipeline: Pipeline, catalog: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run the pipeline on the cluster.

        Raises:
            OSError: if there is no scheduler at the address.
        """
        from distributed import Client, LocalCluster

        self.slots = len(pipeline.nodes)  # the scheduler decides
        with ExitStack() as stack:
            cluster: Any = self.address
            if cluster is None:
                workers = count_workers(catalog.load(PARAMETER) if PARAMETER in catalog else "auto")
                before = {name: os.environ.get(name) for name in THREADS}
                stack.callback(_restore, before)
                os.environ.update(dict.fromkeys(THREADS, "1"))
                cluster = stack.enter_context(LocalCluster(workers, threads_per_worker=1, dashboard_address=":0"))
            self.client = stack.enter_context(Client(cluster))
            threads = sum(self.client.nthreads().values())
            logger.info("Dask cluster with %d threads, progress at %s", threads, self.client.dashboard_link)
            for name in pipeline.all_outputs():
                if name not in catalog:
                    catalog[name] = PublishedDataset(f"{name}-{uuid4().hex[:8]}")
            return super().run(pipeline, catalog, *args, **kwargs)

    def _get_executor(self, max_workers: int) -> None:
        return None

    def _submit(self, task: Task) -> Future[Any]:
        step = task.node.name.rpartition(".")[2]
        gpu = {"GPU": 1} if self.gpu and step.startswith(("fit", "draw")) else {}
        # those that are one of many tasks of a node take it themselves
        taken = {} if step.startswith("fit") else gpu
        executor = self.client.get_executor(resources=taken)
        return executor.submit(_run_on_worker, task, gpu, key=f"{task.node.name}-{uuid4().hex[:8]}")


class PublishedDataset(AbstractDataset[Any, Any]):
    """What passes between two nodes on a Dask cluster without a file; the scheduler keeps it.

    Args:
        name: under which the scheduler knows it, different for every run.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def load(self) -> Any:
        from distributed import get_client

        return get_client().get_dataset(self.name)

    def save(self, data: Any) -> None:
        from distributed import get_client

        get_client().publish_dataset(data, name=self.name, override=True)

    def _exists(self) -> bool:
        from distributed import get_client

        return self.name in get_client().list_datasets()

    def _release(self) -> None:
        from distributed import get_client

        get_client().unpublish_dataset(self.name)

    def _describe(self) -> dict[str, Any]:
        return {"name": self.name}


#: what a task of a task takes, where this process works on one for a Dask cluster
_RESOURCES: ContextVar[dict[str, int] | None] = ContextVar("resources", default=None)


def _run_on_worker(task: Task, resources: dict[str, int]) -> None:
    """Run a node in a process of a Dask cluster."""
    nothing: Any = _NullPluginManager()  # no hooks, as Kedro documents for its runner of processes
    task.parallel, task.hook_manager = False, nothing
    token = _RESOURCES.set(resources)
    try:
        task.execute()
    finally:
        _RESOURCES.reset(token)


def parallel_calls() -> int:
    """How many calls ``each`` makes at a time: as many as the Dask cluster has threads, elsewhere one."""
    if _RESOURCES.get() is None:
        return 1
    from distributed import get_client

    return sum(get_client().nthreads().values())


def each(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What calls return: one after another or, within a node on a Dask cluster, each as a task of its own."""
    if (resources := _RESOURCES.get()) is None:
        return [call() for call in calls]
    from distributed import worker_client

    with worker_client() as client:  # the node makes room on its worker while it waits
        return client.gather([client.submit(call, pure=False, resources=resources) for call in calls])


def _start_process() -> None:
    """Read the project's settings in a process of the run, which Kedro 1.7 does not; one thread; end with the run."""
    from kedro.framework.project import settings

    # the process that it is a copy of may be older than the run, and have more
    os.environ.update(dict.fromkeys(THREADS, "1"))
    if "torch" in sys.modules:
        import torch
        from threadpoolctl import threadpool_limits

        torch.set_num_threads(1)
        threadpool_limits(1)
    settings.configure(f"{PACKAGE}.settings")
    end_with_parent()


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
