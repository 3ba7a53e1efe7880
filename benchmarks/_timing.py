"""Median wall time of calls made in turn, so that a machine that slows down slows all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def in_turn(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each call, after one uncounted round."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if repeat:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def show(medians: Mapping[str, float]) -> None:
    """Print seconds, and how many times longer than the first call each one takes."""
    first = next(iter(medians.values()))
    for name, seconds in medians.items():
        print(f"{name:<44} {seconds:9.3f} s   x {seconds / first:.2f}")
