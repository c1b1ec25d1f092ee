"""Load time and peak memory of deepsim-fc6 (224 MB, random weights in the published layout), first and later loads.

    python benchmarks/load_time.py > benchmarks/results/load_time.json

Prints one JSON object. Memory is the peak of the resident set above that after the imports, with file pages.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from gen_prior.generators import load_generator
from gen_prior.generators.deepsim.network import VARIANTS, UpconvNetwork
from gen_prior.util.devices import environment as environment_of

FILE = "upconvGAN_fc6.pt"


def peak() -> int:
    """Peak resident memory of this process in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def measure(folder: str) -> dict[str, float]:
    """Seconds and memory of one load in this process."""
    before, start = peak(), time.perf_counter()
    load_generator(f"local-dir:{folder}", device="cpu")
    return {"seconds": round(time.perf_counter() - start, 2), "peak_megabytes": round((peak() - before) / 1e6)}


def main() -> None:
    """Write the weights, then load them in two new processes."""
    if len(sys.argv) == 2:
        print(json.dumps(measure(sys.argv[1])))
        return
    with tempfile.TemporaryDirectory() as folder:
        with torch.device("meta"):
            state = UpconvNetwork(VARIANTS["deepsim-fc6"]).state_dict()
        tensors = {key.removeprefix("layers."): 0.01 * torch.randn(value.shape) for key, value in state.items()}
        torch.save(tensors, Path(folder) / FILE)
        environment = os.environ | {"HF_HOME": str(Path(folder) / "home")}
        command = [sys.executable, __file__, folder]
        runs = [
            json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
            for _ in range(2)
        ]
        size = round((Path(folder) / FILE).stat().st_size / 1e6)
    found = {"file_megabytes": size, "first_load_converts": runs[0], "later_loads": runs[1]}
    print(json.dumps(found | {"environment": environment_of(torch.device("cpu"))}, indent=1))


if __name__ == "__main__":
    main()
