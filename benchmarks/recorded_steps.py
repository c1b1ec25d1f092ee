"""Steps per second of a synthesis on a GPU, with each step recorded as a CUDA graph or launched kernel by kernel.

    python benchmarks/recorded_steps.py --out benchmarks/results/recorded-steps.json

Through the embedded prior, in bf16, 128 steps of one class, all items in one batch. The rate is measured from step 8 to
the end; `whole` is the duration of the call. Each measurement is made twice and the second one is reported.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from engine import Clock

import gen_prior as gp
from gen_prior.optimise import cuda_graph, loop
from gen_prior.util.files import write_json

BATCHES = (1, 8, 64)
STEPS, FIRST = 128, 8


def timed(classifier: gp.Classifier, generator: gp.Generator, batch: int) -> dict[str, float]:
    """Seconds of a whole call, and its steps per second after the first steps."""
    clock = Clock(classifier.device)
    marks: list[float] = []

    def progress(done: gp.Progress) -> None:
        if done.done in (FIRST * batch, done.total):
            marks.append(clock())

    began = clock()
    gp.synthesize(classifier, 1, generator, seeds=batch, batch=batch, steps=STEPS, progress=progress)
    whole = clock() - began
    rate = (STEPS - FIRST) / (marks[1] - marks[0])
    return {"whole": round(whole, 3), "steps_per_second": round(rate, 1)}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    classifier = gp.load_classifier("efficientnet-lite0", device="cuda")
    generator = gp.load_generator("dgn-lite0", device="cuda")
    worthwhile, rows = cuda_graph.WORTHWHILE, []
    for batch in BATCHES:
        row: dict[str, Any] = {"batch": batch}
        for name, needed in (("launched", STEPS + 1), ("recorded", worthwhile)):
            loop.WORTHWHILE = needed  # type: ignore[attr-defined]
            timed(classifier, generator, batch)
            row[name] = timed(classifier, generator, batch)
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
    machine = {"device_name": torch.cuda.get_device_name(), "torch": torch.__version__}
    write_json(options.out, {"command": "python benchmarks/recorded_steps.py", "machine": machine, "rows": rows})


if __name__ == "__main__":
    main()
