"""Seconds and memory of larger images through the embedded prior, a process for each size.

    python benchmarks/image_sizes.py > benchmarks/results/image_sizes.json

One image at a time on one thread of a CPU. "seconds_per_evaluation" is of a whole step, classifier included: the mean
over 16 of them. "peak_megabytes" is that of the process, of which torch and the networks take most at 256 px.
"""

from __future__ import annotations

import json
import platform
import resource
import subprocess
import sys
import time

import torch

import gen_prior as gp

SIDES = (256, 512, 1024)
STEPS = 16


def measure(side: int) -> dict[str, float]:
    """Costs at one side."""
    torch.set_num_threads(1)
    classifier = gp.load_classifier("efficientnet-lite0", device="cpu")
    generator = gp.load_generator("dgn-lite0", device="cpu", image_size=side)
    ticks: list[float] = []
    gp.synthesize(
        classifier, "goldfish", generator, steps=STEPS + 1, progress=lambda progress: ticks.append(time.perf_counter())
    )
    return {
        "code": generator.code_shape[0],
        "seconds_per_evaluation": round((ticks[-1] - ticks[0]) / STEPS, 3),
        "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main() -> None:
    """Print the costs of all sides as JSON, or those of the side on the command line."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]))))
        return
    parts = [subprocess.check_output([sys.executable, __file__, str(side)], text=True) for side in SIDES]
    costs = {side: json.loads(part) for side, part in zip(SIDES, parts, strict=True)}
    print(json.dumps({"costs": costs, "torch": torch.__version__, "machine": platform.machine()}, indent=1))


if __name__ == "__main__":
    main()
