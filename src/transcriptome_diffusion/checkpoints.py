"""Where trainings keep what they need to go on after their process was killed.

Apart from ``training``, which imports torch and Lightning.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from transcriptome_diffusion import __version__

#: seconds between two checkpoints; a training that is shorter writes none
INTERVAL = 60.0
#: of a training that writing them may take: large networks write fewer
SHARE = 0.05
#: seconds that a training has to write a checkpoint when the process that started it is gone
GRACE = 20.0
#: of the name of a checkpoint
SUFFIX = ".ckpt"


class TrainingDivergedError(RuntimeError):
    """Training broke down before its first healthy validation; there is nothing worth keeping."""


@dataclass(frozen=True)
class Checkpoints:
    """Where the trainings of a block keep their checkpoints.

    Attributes:
        folder: made when the first checkpoint is written.
        about: plain JSON that decides the trainings beside what ``training.fit`` is given, such as all options of a
            generator. A checkpoint is only used by a training for which it is the same.
    """

    folder: Path
    about: Mapping[str, Any] = field(default_factory=dict)


_CURRENT: ContextVar[Checkpoints | None] = ContextVar("checkpoints", default=None)


@contextmanager
def checkpoints_in(folder: str | Path, **about: Any) -> Iterator[None]:
    """Let trainings within the block keep checkpoints in ``folder``, and go on from those that lie there.

    Save what was trained within the block: at its end the checkpoints are removed, and the folder if nothing else lies
    there. An error or a signal leaves them.
    """
    token = _CURRENT.set(Checkpoints(Path(folder), about))
    try:
        yield
    finally:
        _CURRENT.reset(token)
    for file in Path(folder).glob(f"*{SUFFIX}"):
        file.unlink(missing_ok=True)
    with suppress(OSError):
        Path(folder).rmdir()


def current() -> Checkpoints | None:
    """Where a training that starts now keeps its checkpoints; None for nowhere."""
    return _CURRENT.get()


@lru_cache(maxsize=1)
def code_version() -> str:
    """Our version and a digest of the source: a training of other code is not continued."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:12]}"


def differences(before: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> list[str]:
    """What differs between two trees of settings, such as ``training.max_steps: 60, now 80``."""
    found: list[str] = []
    for name in [*before, *(name for name in now if name not in before)]:
        old, new, path = before.get(name), now.get(name), f"{where}{name}"
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{path}.")
        elif old != new:
            short = max(len(str(value)) for value in (old, new)) <= 40
            found.append(f"{path}: {old}, now {new}" if short else path)
    return found


def end_with_parent() -> None:
    """Let this process end when the one that started it does, even if that was killed."""
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: Any) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)  # a training writes a checkpoint
    time.sleep(GRACE)
    os._exit(1)
