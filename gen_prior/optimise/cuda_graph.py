"""A step of the loop as one CUDA graph.

A network of a hundred layers launches a thousand kernels a step, and at small batches the GPU would wait for each.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[..., tuple[Tensor, ...]]
PLAIN_CALLS = 2
"""Before the recording, for what libraries set up at their first call."""
WORTHWHILE = 16
"""Calls that repay a recording."""


class CapturedStep:
    """A function of CUDA tensors, which is recorded at its third call and replayed from then on.

    Shapes stay the same from call to call, and what is not computed on the device is as it was at the recording. Each
    replay overwrites the tensors that the last one returned. A function that waits for the host cannot be recorded; it
    goes on as it is.
    """

    def __init__(self, function: Step) -> None:
        self.function = function
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        self.calls += 1
        if self.calls == PLAIN_CALLS + 1:
            self._record(inputs)
        if self.graph is None:
            return self.function(*inputs)
        for kept, given in zip(self.inputs, inputs, strict=True):
            kept.copy_(given)
        self.graph.replay()
        return self.outputs

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        self.inputs = [given.detach().clone() for given in inputs]
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self.outputs = self.function(*self.inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            return
        self.graph = graph
