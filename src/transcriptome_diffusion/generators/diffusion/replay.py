"""The network of a reverse process on a GPU: one CUDA graph, which starts all kernels of a step at once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

#: calls done kernel by kernel first, in which libraries choose their kernels
WARM_UP = 3


Inputs = tuple[Tensor | None, ...]


class Recorded(NamedTuple):
    """A graph with what it reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: Inputs
    output: Tensor


class ReplayedNetwork:
    """``network`` recorded once per shape of its inputs, after ``WARM_UP`` calls, and replayed from then on.

    The next call overwrites what a call returned. If recording fails, a warning says why, and calls go on without.
    """

    def __init__(self, network: Callable[..., Tensor]) -> None:
        self.network = network
        self.calls: dict[tuple[torch.Size | None, ...], int] = {}
        self.recorded: dict[tuple[torch.Size | None, ...], Recorded] = {}
        self.works = True

    @torch.no_grad()
    def __call__(self, *inputs: Tensor | None) -> Tensor:
        shapes = tuple(None if tensor is None else tensor.shape for tensor in inputs)
        self.calls[shapes] = self.calls.get(shapes, 0) + 1
        if not self.works or self.calls[shapes] <= WARM_UP:
            return self.network(*inputs)
        if shapes not in self.recorded:
            try:
                self.recorded[shapes] = self.record(inputs)
            except RuntimeError as error:
                logger.warning("drawing goes on without CUDA graphs, since recording one failed: %s", error)
                self.works = False
                return self.network(*inputs)
        found = self.recorded[shapes]
        for own, given in zip(found.inputs, inputs, strict=True):
            if own is not None and given is not None:
                own.copy_(given)
        found.graph.replay()
        return found.output

    def record(self, inputs: Inputs) -> Recorded:
        graph, own = torch.cuda.CUDAGraph(), tuple(None if tensor is None else tensor.clone() for tensor in inputs)
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            output = self.network(*own)
        return Recorded(graph, own, output)
