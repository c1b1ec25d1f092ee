"""A step of the loop as one CUDA graph.

A network of a hundred layers launches about a thousand kernels a step; at small batches launching them takes longer
than running them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[..., tuple[Tensor, ...]]
PLAIN_CALLS = 2
"""Calls before the capture, in which libraries set up what they need."""
WORTHWHILE = 16
"""Number of calls from which a capture pays off."""


class CapturedStep:
    """A function of CUDA tensors that is captured at its third call and replayed from then on.

    Shapes must stay the same from call to call; values that are not computed on the device stay as they were at the
    capture. Each replay overwrites the tensors that the last one returned. A function that synchronises with the host
    cannot be captured and keeps running as it is.
    """

    def __init__(self, function: Step) -> None:
        self.function = function
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        self.calls += 1
        if self.calls == PLAIN_CALLS + 1:
            self._capture(inputs)
        if self.graph is None:
            return self.function(*inputs)
        for kept, given in zip(self.inputs, inputs, strict=True):
            kept.copy_(given)
        self.graph.replay()
        return self.outputs

    def _capture(self, inputs: tuple[Tensor, ...]) -> None:
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
