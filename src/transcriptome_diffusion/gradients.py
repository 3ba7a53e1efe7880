"""Loss and gradients of a training step; on a GPU as one CUDA graph, which starts all kernels of the step at once.

A step of these networks is a hundred small kernels or more, and starting them one by one takes longer than they run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

#: steps done kernel by kernel first, in which libraries choose their kernels and take their working memory
WARM_UP = 3

Batch = tuple[Tensor, ...]
Terms = dict[str, Tensor]
Loss = Callable[[Batch], Terms]


def gradients(loss: Loss, parameters: Sequence[nn.Parameter], batch: Batch) -> Terms:
    """The terms of a loss, detached; every parameter's ``grad`` is then that of its ``loss`` for this batch alone.

    What else the loss depends on (a critic, in the loss of its generator) gets none.
    """
    for parameter in parameters:
        parameter.grad = None
    # autocast keeps the rounded weights of a context, and there may have been a step since
    torch.clear_autocast_cache()
    terms = loss(batch)
    # bfloat16 needs no scaled loss, so Lightning's manual_backward would only take time
    terms["loss"].backward(inputs=list(parameters))
    return {name: value.detach() for name, value in terms.items()}


class Recorded(NamedTuple):
    """A graph with what it reads and writes: every replay overwrites terms and gradients."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    names: list[str]
    terms: Tensor
    gradients: list[Tensor | None]


class GradientGraphs:
    """``gradients`` recorded once per shape of a batch, and replayed.

    The first steps of a shape are done kernel by kernel; they are steps like any other. Random numbers are those that
    the same steps would draw without graphs. If recording fails, a warning says why, and training goes on without.

    Args:
        loss: of a batch; it must not wait for the device.
        parameters: all that get a gradient.
        generator: of the random numbers that ``loss`` draws, on the device.
    """

    def __init__(self, loss: Loss, parameters: Sequence[nn.Parameter], generator: torch.Generator) -> None:
        self.loss, self.parameters, self.generator = loss, parameters, generator
        self.stream = torch.cuda.Stream(generator.device)
        self.seen: dict[tuple[torch.Size, ...], int] = {}
        self.recorded: dict[tuple[torch.Size, ...], Recorded] = {}
        self.works = True

    def __call__(self, batch: Batch) -> Terms:
        shapes = tuple(tensor.shape for tensor in batch)
        self.seen[shapes] = self.seen.get(shapes, 0) + 1
        if not self.works or self.seen[shapes] <= WARM_UP:
            return self.kernel_by_kernel(batch)
        if shapes not in self.recorded:
            try:
                self.recorded[shapes] = self.record(batch)
            except RuntimeError as error:
                logger.warning("training goes on without CUDA graphs, since recording one failed: %s", error)
                self.works = False
                return self.kernel_by_kernel(batch)
        found = self.recorded[shapes]
        for own, given in zip(found.batch, batch, strict=True):
            own.copy_(given)
        found.graph.replay()
        for parameter, gradient in zip(self.parameters, found.gradients, strict=True):
            parameter.grad = gradient
        return dict(zip(found.names, found.terms.clone().unbind(), strict=True))

    def kernel_by_kernel(self, batch: Batch) -> Terms:
        # on the stream of recordings, since autograd keeps the streams that it began on
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            terms = gradients(self.loss, self.parameters, batch)
        current.wait_stream(self.stream)
        return terms

    def record(self, batch: Batch) -> Recorded:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        own = tuple(tensor.clone() for tensor in batch)
        # graphs of several shapes never run at once, so they share their working memory
        pool = next((found.graph.pool() for found in self.recorded.values()), None)
        torch.cuda.synchronize(self.stream.device)
        with torch.cuda.graph(graph, pool=pool, stream=self.stream):
            terms = gradients(self.loss, self.parameters, own)
            values = torch.stack([value.float() for value in terms.values()])
        return Recorded(graph, own, list(terms), values, [parameter.grad for parameter in self.parameters])
