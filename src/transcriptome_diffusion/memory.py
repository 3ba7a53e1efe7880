"""Check that a stage fits into memory before it starts: an error with numbers instead of a killed process."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger(__name__)

GB = 1e9
#: needs are estimates, good to about 30 %: a stage is refused when it needs this many times what there is
TOLERANCE = 1.2
#: bytes; needs below this are not logged
LOGGED_ABOVE = 1e9
ROOT = Path("/")
#: advice for stages of all genes; those of the landmarks need a twentieth of their memory
SMALLER = (
    "Stages of all genes are made smaller by fewer genes (raise `min_expressed_share` of the ingestion) or fewer "
    "profiles (fewer `tissues`)."
)


class NotEnoughMemoryError(MemoryError):
    """A stage needs more memory than there is; nothing has been computed yet."""


def require_memory(what: str, needed_bytes: float, advice: str) -> None:
    """Log how much memory a stage needs, and refuse to start it where less is available.

    Args:
        what: the stage, as the subject of a sentence.
        needed_bytes: at its peak, beyond what is in use already.
        advice: how to make it smaller: which parameter, in which direction.

    Raises:
        NotEnoughMemoryError: with what is needed, what is available, and the advice.
    """
    available = available_memory()
    there = "how much is available is not known" if available is None else f"{available / GB:.1f} GB are available"
    if available is not None and needed_bytes > TOLERANCE * available:
        raise NotEnoughMemoryError(
            f"{what} needs about {needed_bytes / GB:.1f} GB of memory beyond what is in use, and {there}. {advice} "
            "Or end other programs, or run it on a machine with more memory."
        )
    tight = available is not None and needed_bytes > available
    if tight or needed_bytes > LOGGED_ABOVE:
        level = logging.WARNING if tight else logging.INFO
        logger.log(level, "%s needs about %.1f GB of memory, %s", what, needed_bytes / GB, there)


def available_memory(root: Path = ROOT) -> int | None:
    """Bytes that this process can still take: what the system has, or less where a control group limits it.

    None where the system does not say. Without ``/proc`` (macOS) it is all the memory the machine has.

    Args:
        root: of the file system that holds ``proc`` and ``sys``.
    """
    found = list(_left_by_control_groups(root))
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        found.append(next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")))
    except (OSError, StopIteration):
        with suppress(AttributeError, ValueError, OSError):  # no such function on Windows, no such name elsewhere
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found, default=None)


def _left_by_control_groups(root: Path) -> Iterator[int]:
    """What the limits on this process's control group (version 2 or 1) and those above it leave."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        limit, usage, cache = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            if controllers
            else ("memory.max", "memory.current", "inactive_file")
        )
        group = base / path.lstrip("/")
        # in a container the path may be that of the host, and the limits lie at the base
        for folder in {base, *(parent for parent in [group, *group.parents] if parent.is_relative_to(base))}:
            try:
                # the cache of files is given back when memory is short
                statistics = dict(entry.split() for entry in (folder / "memory.stat").read_text().splitlines())
                used = int((folder / usage).read_text()) - int(statistics.get(cache, 0))
                yield int((folder / limit).read_text()) - used
            except (OSError, ValueError):  # not there, or "max"
                continue
