"""How many items fit in memory at once, and what happens when they do not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import DeviceError, OptionError
from gen_prior.generators.base import Generator
from gen_prior.optimise.batch import Item
from gen_prior.util.devices import free_memory, is_missing_memory

T = TypeVar("T")
CPU_BATCH, ACCELERATOR_BATCH = 8, 64


def fitting_batch(classifier: Classifier, generator: Generator, items: Sequence[Item]) -> int:
    """Items per pass: as many as half of the free memory holds, at most 8 on a CPU and 64 elsewhere.

    One for a classifier that takes no more, and where not even the measurement fits: `run_in_batches` then says so.
    """
    if classifier.one_image:
        return 1
    most = min(len(items), CPU_BATCH if classifier.device.type == "cpu" else ACCELERATOR_BATCH)
    free = free_memory(classifier.device)
    if most == 1 or free is None:
        return most
    try:
        each = bytes_per_item(classifier, generator, items[0])
    except (MemoryError, RuntimeError) as error:
        if not is_missing_memory(error):
            raise
        return 1
    return max(1, min(most, free // 2 // max(1, each)))


def bytes_per_item(classifier: Classifier, generator: Generator, item: Item) -> int:
    """Bytes that the forward pass of one item keeps for its backward pass, in float32, without the weights."""
    networks = [part for part in (classifier.network, generator.module) if isinstance(part, nn.Module)]
    tensors = [tensor for part in networks for tensor in (*part.parameters(), *part.buffers())]
    weights = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    layers = [*item.objective.layers, *(item.target.layers if item.target is not None else ())]
    code = item.start[None].to(classifier.device).requires_grad_()
    with (
        classifier.record_layers(layers) as hooks,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        image = generator(code)
        activations = hooks(classifier.preprocess(image))  # kept alive: a freed storage's address could be reused
        score = item.objective(activations, image, code)
    del score
    return sum(kept.values())


def batch_sizes(batch: int | Sequence[int]) -> Iterator[int]:
    """Sizes of successive batches, without end: the last one repeats. Raises `OptionError` for one below 1."""
    sizes = list(batch) if isinstance(batch, Sequence) else [batch]
    if not sizes or not all(isinstance(size, int) and size >= 1 for size in sizes):
        raise OptionError(f"batch must be at least 1, got {batch}")
    return itertools.chain(sizes, itertools.repeat(sizes[-1]))


def run_in_batches(
    items: Sequence[Item],
    batch: int | Sequence[int],
    run: Callable[[Sequence[Item], int], T],
    out_of_memory: str,
    *,
    kinds: Sequence[object],
) -> Iterator[tuple[int, Sequence[Item], T]]:
    """Yield (first item, items, `run(items, first)`) batch by batch; a batch that does not fit is halved.

    `kinds`: one value per item; a batch holds items of equal values only.

    Raises `DeviceError` with `out_of_memory` where a single item does not fit.
    """
    sizes = batch_sizes(batch)
    size, first = next(sizes), 0
    while first < len(items):
        alike = itertools.takewhile(lambda kind, first=first: kind == kinds[first], kinds[first : first + size])  # type: ignore[misc]
        chunk = items[first : first + len(list(alike))]
        try:
            result = run(chunk, first)
        except (MemoryError, RuntimeError) as error:
            if not is_missing_memory(error):
                raise
            if len(chunk) == 1:
                fix = 'use a smaller image (load_generator(..., image_size=...)), precision="bf16" or another device'
                raise DeviceError(out_of_memory, fix=fix) from error
            size = (len(chunk) + 1) // 2
            sizes = itertools.repeat(size)
            result = None
        if result is None:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        yield first, chunk, result
        first += len(chunk)
        size = next(sizes)
