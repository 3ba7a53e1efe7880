"""One training in several processes of this machine: each takes a share of every batch, and gradients are averaged.

Each process has a device of its own and trains with Lightning as if it were alone; gradients pass between them through
``torch.distributed``. Lightning's own data parallelism is not used: it starts the command of the run again for every
device, and at SIGTERM it communicates from within the signal handler, which blocks processes that are in the middle
of a step, so that no checkpoint is written.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing import get_context

from transcriptome_diffusion.checkpoints import GRACE, end_with_parent

#: between the seeds of the random numbers of two processes; a training uses three next to its own
RANK_STEP = 10


class Group:
    """The processes of one training, seen from one of them; by default a process alone.

    Attributes:
        rank: of this process, from 0. size: how many there are.
        asked_to_end: whether this process was sent SIGTERM.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self.asked_to_end = False

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Set tensors of the same shapes in all processes to their mean, in place."""
        if self.size > 1 and tensors:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            dist.all_reduce(flat)
            parts = (flat / self.size).split([tensor.numel() for tensor in tensors])
            torch._foreach_copy_(
                list(tensors), [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]
            )

    def any(self, *flags: bool) -> list[bool]:
        """Which flags are set in any of the processes; all of them have to ask."""
        if self.size == 1:
            return list(flags)
        found = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return found.bool().tolist()

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank."""
        found = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(found, value)
        return found


#: what trains in one process
ALONE = Group()


def launch(work: Callable[..., Any], size: int, *arguments: Any, what: str = "training") -> Any:
    """What process 0 returns of ``work(group, *arguments)``, which ``size`` new processes call together.

    Tensors among the arguments lie in memory that all processes share, so what they write there is seen here. Lines
    that process 0 logs appear in the log of this process. When this process is asked to end (SIGTERM), so are they.

    Args:
        work: a function of a module, since new processes import it.
        what: stands in errors.

    Raises:
        RuntimeError: if a process is lost, as where the system kills it when memory runs out; or, unchanged, the first
            error that a process raises.
    """
    context, level = get_context("spawn"), logging.getLogger(__name__.partition(".")[0]).getEffectiveLevel()
    # port 0: the system chooses a free one
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    pipes = [context.Pipe(duplex=False) for _ in range(size)]
    processes = [
        context.Process(target=_start, args=(Group(rank, size), store.port, pipe[1], level, work, arguments))
        for rank, pipe in enumerate(pipes)
    ]
    with _ended(processes), _sigterm_raises():
        for process, (_, sender) in zip(processes, pipes, strict=True):
            process.start()
            sender.close()
        found: list[Any] = []
        listened: dict[Any, int] = {receiver: rank for rank, (receiver, _) in enumerate(pipes)}
        while listened:
            for receiver in wait(list(listened)):
                assert isinstance(receiver, Connection)
                try:
                    kind, value = receiver.recv()
                except EOFError:
                    processes[listened.pop(receiver)].join(GRACE)
                    _none_lost(processes, what)
                    continue
                if kind == "log":
                    logging.getLogger(value.name).handle(value)
                elif kind == "result":
                    found.append(value)
                else:
                    time.sleep(0.5)  # it may only have missed one that was killed
                    _none_lost(processes, what)
                    raise value
    if not found:  # someone sent SIGTERM to the processes and not to this one
        raise SystemExit(128 + signal.SIGTERM)
    return found[0]


def _none_lost(processes: Sequence[Any], what: str) -> None:
    for rank, process in enumerate(processes):
        if process.exitcode:
            raise RuntimeError(
                f"{what}: process {rank + 1} of {len(processes)} (`training.devices`) was lost with exit code "
                f"{process.exitcode}; the system kills processes when memory runs out. Use fewer devices, a smaller "
                "`training.batch_size`, or a machine with more memory."
            )


@contextmanager
def _ended(processes: Sequence[Any]) -> Iterator[None]:
    """Let no process stay: after an error they are killed, and after an interruption they write a checkpoint first."""
    try:
        yield
    except BaseException as error:
        for process in processes:
            if process.is_alive():
                process.kill() if isinstance(error, Exception) else process.terminate()
        raise
    finally:
        for process in processes:
            if process.pid is not None:
                process.join(GRACE)
                process.kill()


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Let SIGTERM end the block as an interruption does; only the main thread of a process can be asked."""

    def end(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Sender(QueueHandler):
    """Sends what is logged to the process that started this one."""

    def enqueue(self, record: logging.LogRecord) -> None:
        pipe: Any = self.queue
        pipe.send(("log", record))


def _start(
    group: Group, port: int, sender: Any, level: int, work: Callable[..., Any], arguments: Sequence[Any]
) -> None:
    """One of the processes of ``launch``."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the process that started them decides
    if group.rank == 0:
        logging.getLogger().addHandler(_Sender(sender))
        logging.getLogger().setLevel(level)
    else:
        logging.disable()
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            store=dist.TCPStore("127.0.0.1", port),
            rank=group.rank,
            world_size=group.size,
        )
        found = work(group, *arguments)
        if group.rank == 0:
            sender.send(("result", found))
        dist.destroy_process_group()
    except Exception as error:  # noqa: BLE001 - it is raised in the process that started this one
        sender.send(("error", error))
        os._exit(0)  # without waiting for the others, which may never answer
