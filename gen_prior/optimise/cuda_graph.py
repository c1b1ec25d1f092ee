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
    """Calls a function of CUDA tensors, captures it at the third call, and replays that from then on.

    Shapes must stay the same from call to call; values that are not computed on the device stay as they were at the
    capture. Each replay overwrites the tensors that the last one returned. A function that synchronises with the host
    cannot be captured and keeps running as it is.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, function: Step, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return `function(*inputs)`; the function must be the same in every call."""
        self.calls += 1
        if self.calls == PLAIN_CALLS + 1:
            self._capture(function, inputs)
        if self.graph is None:
            return function(*inputs)
        for kept, given in zip(self.inputs, inputs, strict=True):
            kept.copy_(given)
        self.graph.replay()
        return self.outputs

    def _capture(self, function: Step, inputs: tuple[Tensor, ...]) -> None:
        self.inputs = [given.detach().clone() for given in inputs]
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self.outputs = function(*self.inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            return
        self.graph = graph
