"""Peak memory of `synthesize(..., out=...)` and of `gen-prior synth`, by the number of targets.

    OMP_NUM_THREADS=1 python benchmarks/memory.py --out benchmarks/results/memory.json

Each figure is of a process of its own: pixels at 224 x 224 (`pixel-raw`), EfficientNet-Lite0, one step an image.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gen_prior.util.devices import environment, resolve_device

COMMON = ["--generator", "pixel-raw", "--steps", "1", "--seeds", "1", "--device", "cpu"]


def run_once(way: str, targets: int, folder: str) -> float:
    """Synthesise classes 0 to `targets` - 1 in this process; returns its peak memory in MB."""
    if way == "command":
        from typer.testing import CliRunner

        from gen_prior.cli import app

        names = [str(number) for number in range(targets)]
        done = CliRunner().invoke(app, ["synth", *names, *COMMON, "--out", folder, "-q"])
        assert done.exit_code == 0, done.output
    else:
        import gen_prior as gp

        classifier, generator = gp.load_classifier("efficientnet-lite0"), gp.load_generator("pixel-raw")
        out = folder if way == "out" else None
        gp.synthesize(classifier, list(range(targets)), generator, seeds=1, steps=1, out=out)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main() -> None:
    """Measure, print and write all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, action="append", default=[])
    parser.add_argument("--way", action="append", default=[], help="out, command or memory (no folder)")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--once", nargs=3, metavar=("WAY", "TARGETS", "DIR"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        print(run_once(given.once[0], int(given.once[1]), given.once[2]))
        return
    figures: dict[str, Any] = {"environment": environment(resolve_device("cpu")), "peak_megabytes": {}}
    for way in given.way or ["out", "command"]:
        for targets in given.targets or [4, 64, 256]:
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, __file__, "--once", way, str(targets), folder]
                peak = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
            figures["peak_megabytes"].setdefault(way, {})[str(targets)] = round(peak, 1)
            print(f"{way}, {targets} targets: {peak:.0f} MB", flush=True)
    if given.out is not None:
        given.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
