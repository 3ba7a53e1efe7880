"""Kedro's command line in a copy of the project."""

import io
import logging
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner


def copied(project, folder, *more):
    """The files of ``project`` that a run needs, and the folders ``more``, in the new ``folder``."""
    folder.mkdir()
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(project / name, folder)
    for name in ("conf", "src", *more):
        shutil.copytree(project / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return folder


def kedro(project, *arguments, before=None, **variables):
    """The finished process; ``before`` is called in it first, and ``variables`` are of its environment."""
    return subprocess.run(
        [sys.executable, "-m", "kedro", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        preexec_fn=before,
        # without the path that a bootstrap in this process may have left: the copy's own source has to be the one;
        # and so wide that no message is broken
        env={**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, "COLUMNS": "2000", **variables},
    )


@dataclass
class Finished:
    """What a finished process has, of a command that ran in this one; ``stderr`` is in ``stdout``."""

    returncode: int
    stdout: str
    stderr: str = ""


def kedro_here(project, *arguments, **variables):
    """The same without a process of its own, nor others for the nodes of a run, which takes seconds less."""
    said = io.StringIO()
    code, output = _run(project, arguments, variables, said)
    return Finished(code, said.getvalue() + output)


def _run(project, arguments, variables, said):
    """Exit code and output of a command in this process, which logs to the stream ``said``."""
    from kedro.framework.cli.cli import KedroCLI

    if arguments[0] == "run":
        given = arguments.index("--params") + 1 if "--params" in arguments else None
        if given is None:
            arguments = (*arguments, "--params", "workers=1")
        else:
            arguments = (*arguments[:given], f"workers=1,{arguments[given]}", *arguments[given + 1 :])
    before, paths, environment = Path.cwd(), sys.path[:], dict(os.environ)
    handler = logging.StreamHandler(said)
    loggers = [logging.getLogger(name) for name in ("kedro", "transcriptome_diffusion")]
    levels = [logger.level for logger in loggers]
    os.chdir(project)
    try:
        command = KedroCLI(project_path=project)
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
        os.environ.update({"COLUMNS": "2000", **variables})
        result = CliRunner().invoke(command, list(arguments))
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
        os.chdir(before)
        sys.path[:] = paths
        os.environ.clear()
        os.environ.update(environment)
    error = "" if result.exception is None else f"{type(result.exception).__name__}: {result.exception}\n"
    return result.exit_code, error + result.output


@contextmanager
def one_thread():
    """As a worker has it: sums of several threads differ in the last digit, and copies of this process lack them."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def kedro_started(context, project, *arguments, own_source=False):
    """The same in a process that need import nothing, and that may be killed.

    Args:
        context: the fixture ``forkserver``.
        own_source: with the source of ``project`` in place of this checkout's.

    Yields:
        The process, which leads a group of its own, and the lines that it says; the last one is the exit code.
    """
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_with_group, args=(project, arguments, own_source, writer))
    process.start()
    writer.close()
    with open(os.dup(reader.fileno())) as lines:
        yield process, lines
    process.join()


def kedro_forked(context, project, *arguments, **how):
    """The same, finished."""
    with kedro_started(context, project, *arguments, **how) as (_, lines):
        said, _, code = lines.read().rpartition("\n")
    return Finished(int(code), said)


def _with_group(project, arguments, own_source, writer):
    os.setsid()
    if own_source:
        for name in [name for name in sys.modules if name.partition(".")[0] == "transcriptome_diffusion"]:
            del sys.modules[name]
    with open(os.dup(writer.fileno()), "w", buffering=1) as said:
        writer.close()
        code, output = _run(project, arguments, {}, said)
        said.write(f"{output}\n{code}")
