"""Speed of the optimisation in steps x images per second, beside a naive loop; memory; share of the peak rate.

    python benchmarks/engine.py --device cpu --out benchmarks/results/engine-cpu.json

The naive loop: one image at a time, gradients for all parameters, batch norms unfolded, contiguous memory, torch's
Adam. The engine: `synthesize`, timed from its second step to its last. Weights do not matter for speed: resnet50 and
the DeePSim fc6 network are randomly initialised. On a CPU, the process's own time is measured, so that other work on
the machine does not count (use one thread: OMP_NUM_THREADS=1).

`floor`: the frozen networks alone, from code to score and back to the code's gradient, timed in the same way right
after: at the row's batch on as many threads as torch has, and one image at a time on one. `times_floor` is the
engine's time in units of the faster of both.

`fraction_of_floor` (GPU only, since the rate of a shared CPU varies): the floating-point operations per second of the
forward pass and of the backward pass to the code, relative to those of a large matrix product of the same precision.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet50

import gen_prior as gp
from gen_prior.classifiers import efficientnet_lite
from gen_prior.generators.deepsim.network import VARIANTS, UpconvNetwork
from gen_prior.util.devices import autocast, one_thread, resolve_device
from gen_prior.util.files import write_json

BATCHES = (1, 8, 32)
TIMED_STEPS = {"cpu": {1: 6, 8: 3, 32: 2}, "cuda": {1: 50, 8: 50, 32: 50}}
BUILT_IN = {"pixel": "pixel-raw", "fourier": "fourier", "dgn-lite0": "dgn-lite0"}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "efficientnet-lite0": lambda: efficientnet_lite.build("efficientnet-lite0"),
    "resnet50": lambda: resnet50(weights=None),
}


def make_classifier(name: str, device: torch.device, *, fold: bool) -> gp.Classifier:
    """A classifier with inputs of 224 px."""
    torch.manual_seed(0)
    return gp.Classifier(NETWORKS[name](), input_size=224, name=name, fold=fold).to(device)


def make_generator(name: str, device: torch.device) -> gp.Generator:
    """Pixels or Fourier coefficients of 224 px, the embedded prior, or a network of the shape of DeePSim's fc6."""
    if name in BUILT_IN:
        return gp.load_generator(BUILT_IN[name], device=device)
    torch.manual_seed(0)
    network = UpconvNetwork(VARIANTS["deepsim-fc6"])
    return gp.Generator(network, (4096,), output_range=(-1, 1), name="deepsim-fc6 shape").to(device)


class Clock:
    """Seconds: process time on a CPU; elsewhere wall time, after the device has finished its work."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self) -> float:
        if self.device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()


class Memory:
    """Peak memory since its creation, in MiB: allocated on the device, or the growth of resident memory on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            ctypes.CDLL(None).malloc_trim(0)  # return what an earlier row has freed to the system
            Path("/proc/self/clear_refs").write_text("5")  # reset the high-water mark
            self.before = self._resident("VmRSS")

    def peak(self) -> float:
        if self.device.type == "cuda":
            return round(torch.cuda.max_memory_allocated(self.device) / 2**20, 1)
        return round((self._resident("VmHWM") - self.before) / 2**10, 1)

    @staticmethod
    def _resident(field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def engine(
    classifier: gp.Classifier, generator: gp.Generator, batch: int, steps: int, precision: str
) -> dict[str, Any]:
    """Rate and peak memory of `synthesize`, all items in one batch."""
    clock, times = Clock(classifier.device), []

    def progress(done: gp.Progress) -> None:
        if done.done in (batch, done.total):  # after the first step and after the last
            times.append(clock())

    memory = Memory(classifier.device)
    recipe = generator.recipe.with_options(steps=steps + 1, candidates=1, trials=1)
    gp.synthesize(
        classifier, 1, generator, seeds=batch, recipe=recipe, batch=batch, precision=precision, progress=progress
    )
    return {"rate": round(steps * batch / (times[1] - times[0]), 3), "peak_mib": memory.peak()}


def floor(classifier: gp.Classifier, generator: gp.Generator, batch: int, steps: int) -> float:
    """Rate of the frozen networks alone: codes -> images -> logits -> gradient in the codes, in float32."""
    clock, start = Clock(classifier.device), 0.0
    codes = torch.stack([generator.initial_code(seed) for seed in range(batch)]).to(classifier.device)
    for step in range(steps + 1):
        if step == 1:
            start = clock()
        codes.requires_grad_()
        torch.autograd.grad(classifier(generator(codes))[:, 1].sum(), codes)
    return round(steps * batch / (clock() - start), 3)


def floors(classifier: gp.Classifier, generator: gp.Generator, batch: int, steps: int) -> dict[str, float]:
    """Rates of `floor` at this batch and, on a CPU, one image at a time on one thread."""
    found = {"batch": floor(classifier, generator, batch, steps)}
    if classifier.device.type == "cpu":
        with one_thread(classifier.device):
            found["one"] = floor(classifier, generator, 1, steps * batch)
    return found


def naive(name: str, kind: str, device: torch.device, steps: int) -> dict[str, Any]:
    """Rate and peak memory of the naive loop."""
    classifier, generator = make_classifier(name, device, fold=False), make_generator(kind, device)
    classifier.network.to(memory_format=torch.contiguous_format).requires_grad_(True)
    if isinstance(generator.module, nn.Module):
        generator.module.to(memory_format=torch.contiguous_format).requires_grad_(True)
    clock, memory = Clock(device), Memory(device)
    code = generator.initial_code(0)[None].to(device).requires_grad_()
    optimiser = torch.optim.Adam([code], lr=0.05)
    start = 0.0
    for step in range(steps + 1):
        if step == 1:
            start = clock()
        optimiser.zero_grad()
        (-classifier(generator(code))[0, 1]).backward()
        optimiser.step()
    return {"rate": round(steps / (clock() - start), 3), "peak_mib": memory.peak()}


def operations(classifier: gp.Classifier, generator: gp.Generator) -> int:
    """Floating-point operations of one image's forward pass and backward pass to the code."""
    code = generator.initial_code(0)[None].to(classifier.device).requires_grad_()
    with FlopCounterMode(display=False) as counter:
        classifier(generator(code))[0, 1].backward()
    return int(counter.get_total_flops())


def matrix_rate(device: torch.device, precision: str) -> float:
    """Operations per second of a large matrix product."""
    side = 8192 if device.type == "cuda" else 1024
    clock, repeats = Clock(device), 20
    left, right = torch.rand(side, side, device=device), torch.rand(side, side, device=device)
    with autocast(precision, device):
        left @ right
        start = clock()
        for _ in range(repeats):
            left @ right
    return 2 * side**3 * repeats / (clock() - start)


def main() -> None:
    """Measure every combination and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--generators", nargs="*", default=[*BUILT_IN, "deepsim-fc6 shape"])
    parser.add_argument("--batches", nargs="*", type=int, default=list(BATCHES), choices=BATCHES)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    matrices = matrix_rate(device, arguments.precision) if device.type == "cuda" else None
    rows = []
    for name in arguments.networks:
        for kind in arguments.generators:
            steps = TIMED_STEPS[device.type]
            slow = naive(name, kind, device, steps[1])
            classifier, generator = make_classifier(name, device, fold=True), make_generator(kind, device)
            count = operations(classifier, generator)
            for batch in arguments.batches:
                fast = engine(classifier, generator, batch, steps[batch], arguments.precision)
                row = {"classifier": name, "generator": kind, "batch": batch, "engine": fast, "naive": slow}
                row["ratio"] = round(fast["rate"] / slow["rate"], 2)
                row["floor"] = floors(classifier, generator, batch, steps[batch])
                row["times_floor"] = round(max(row["floor"].values()) / fast["rate"], 2)
                row["gigaoperations_per_image"] = round(count / 1e9, 2)
                if matrices is not None:
                    row["fraction_of_floor"] = round(fast["rate"] * count / matrices, 3)
                rows.append(row)
                print(json.dumps(row), file=sys.stderr, flush=True)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    rate = {"matrix_gigaoperations_per_second": round(matrices / 1e9, 1)} if matrices is not None else {}
    machine = {"device": device.type, "name": name, "threads": torch.get_num_threads(), "system": platform.system()}
    record = {
        "what": "steps x images per second; naive: one image at a time",
        "command": f"python benchmarks/engine.py --device {device.type} --precision {arguments.precision}",
        "machine": machine | rate,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "precision": {"engine": arguments.precision, "naive": "fp32"},
        "rows": rows,
    }
    write_json(arguments.out, record)


def cpu_name() -> str:
    """Name of the processor, or its architecture if the name is unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


if __name__ == "__main__":
    main()
