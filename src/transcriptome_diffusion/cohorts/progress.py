"""How far a large file has been read or fetched."""

from __future__ import annotations

import logging
import sys
import time
from typing import Self

from tqdm import tqdm

logger = logging.getLogger(__name__)

#: seconds between log lines
LOG_EVERY = 15


class Progress:
    """Bytes that are done: a bar where someone watches a terminal, otherwise a log line now and then.

    Args:
        title: stands before the numbers.
        total: bytes in all; None where nobody knows.
        done: what has become of them, such as "read".
        start: bytes that were done before.
    """

    def __init__(self, title: str, total: int | None, done: str, start: int = 0) -> None:
        self.title, self.total, self.done = title, total, done
        watched = sys.stderr.isatty()
        self.bar = tqdm(
            desc=title, total=total, initial=start, unit="B", unit_scale=True, disable=not watched, leave=False, delay=1
        )
        self.next_line = None if watched else time.monotonic() + LOG_EVERY

    def __call__(self, position: int) -> None:
        """``position`` bytes are done."""
        self.bar.update(position - self.bar.n)
        if self.next_line is None or time.monotonic() <= self.next_line:
            return
        self.next_line += LOG_EVERY
        if self.total:
            share, whole = 100 * position / self.total, self.total / 1e9
            logger.info("%s: %.0f %% of %.2f GB %s", self.title, share, whole, self.done)
        else:
            logger.info("%s: %.2f GB %s", self.title, position / 1e9, self.done)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
