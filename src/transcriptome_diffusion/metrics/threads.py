"""One thread for the products of small arrays.

Threads of BLAS wait for each other by spinning. On arrays of a hundred profiles that costs more than a second core
gains: 40 times the work of a logistic regression on a machine with two busy cores.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numpy as np
import scipy.linalg  # noqa: F401 (its BLAS has to be loaded before it can be limited)
from threadpoolctl import ThreadpoolController

from transcriptome_diffusion.metrics.profile_set import ProfileSet

P = ParamSpec("P")
R = TypeVar("R")

#: values of the largest argument, such as 2,048 profiles of 2,048 genes, beyond which all threads are used
SMALL = 2**22


def one_thread_if_small(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: BLAS has one thread inside ``function`` if no array or profile set among its arguments is large."""

    @functools.wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        given = [part.values if isinstance(part, ProfileSet) else part for part in (*args, *kwargs.values())]
        if max((part.size for part in given if isinstance(part, np.ndarray)), default=0) > SMALL:
            return function(*args, **kwargs)
        with _controller().limit(limits=1, user_api="blas"):
            return function(*args, **kwargs)

    return limited


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
