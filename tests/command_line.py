"""Kedro's command line in a copy of the project."""

import os
import shutil
import subprocess
import sys


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
