"""What an atlas costs beside its networks, by one worker and by two, and how 100,000 neurons go.

    python benchmarks/atlas.py --images photographs/ --out benchmarks/results/atlas.json
    python benchmarks/atlas.py --only simulation --out benchmarks/results/atlas.json

What is measured is added to the file, in place of an earlier figure of the same name.

`engine`: processor time of this process while it makes a shard of EfficientNet-Lite0, split into `synthesize`, other
passes of networks (signatures, the judge) and the rest, which is the engine's own; and the processor time of bare
`synthesize` calls for the same targets. On one thread, so that other work on the machine hardly counts.

`speed`: wall-clock time of the whole command, from start to end, with one worker of one thread and with two; and of the
neurons alone, from the first that is on the disk to the last. Only true on a quiet machine.

`simulation`: many neurons of a network that costs next to nothing (`build_wide` of `tests/atlas_stand_in.py`), one
evaluation each, by two workers: memory of driver and workers, a restart after SIGKILL, size (`atlas_simulation.py`).

`restarts`: five more of them, of a simulation that was stopped and lies in the folder of --scratch.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from atlas_simulation import COMMAND, restarts, simulation

import gen_prior as gp
from gen_prior.atlas import neurons
from gen_prior.atlas.make_shard import make_shard
from gen_prior.atlas.networks import loaded_networks
from gen_prior.atlas.reader import load_atlas
from gen_prior.util.devices import environment
from gen_prior.util.files import write_json

LAYERS = ("blocks.10", "blocks.12")


class Timed:
    """A function that adds up the processor time of its calls."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        began = time.process_time()
        try:
            return self.function(*arguments, **options)
        finally:
            self.seconds += time.process_time() - began


def engine(folder: Path, units: int, evaluations: int) -> dict[str, Any]:
    """The engine's share of the processor time of a shard, and that of bare calls of `synthesize`."""
    torch.set_num_threads(1)
    out = folder / "engine"
    settings: dict[str, Any] = {"units": f"0-{units - 1}", "evaluations": evaluations, "workers": 1}
    gp.make_atlas("efficientnet-lite0", LAYERS[0], out=out, device="cpu", **(settings | {"units": "0"}))  # warms up
    shutil.rmtree(out)
    manifest = prepared(out, settings)
    _, networks = loaded_networks(str(out.resolve()), manifest, "cpu")
    synthesize, passes = Timed(gp.synthesize), Timed(neurons.Maker._signature)
    with (
        patch.object(neurons, "synthesize", synthesize),
        patch.object(neurons.Maker, "_signature", lambda self, image: passes(self, image)),
    ):
        began = time.process_time()
        make_shard(str(out), 0)
        whole = time.process_time() - began
    method, bare = networks.methods[0], 0.0
    for unit in range(units):
        began = time.process_time()
        gp.synthesize(
            networks.classifier, f"{LAYERS[0]}:{unit}", method.generator, seeds=1, recipe=method.recipe,
            unit_recipe=method.unit_recipe, batch=1,
        )  # fmt: skip
        bare += time.process_time() - began
    own = whole - synthesize.seconds - passes.seconds
    return {
        "neurons": units,
        "evaluations": evaluations,
        "shard_seconds": whole,
        "synthesize_seconds": synthesize.seconds,
        "other_passes_seconds": passes.seconds,
        "own_seconds": own,
        "own_share": own / whole,
        "bare_synthesize_seconds": bare,
        "beyond_bare_share": 1 - bare / whole,
    }


def prepared(out: Path, settings: dict[str, Any]) -> str:
    """Write the manifest of an atlas of one shard; its identity."""

    def stop(_: gp.Progress) -> None:
        raise InterruptedError

    try:
        gp.make_atlas("efficientnet-lite0", LAYERS[0], out=out, device="cpu", progress=stop, **settings)
    except InterruptedError:
        for path in (out / "shards").glob(".*"):
            shutil.rmtree(path)
    return load_atlas(out).records.manifest.identity


def speed(folder: Path, images: Path, units: int, evaluations: int) -> dict[str, Any]:
    """Wall-clock seconds of the issue's command with one worker and with two."""
    found: dict[str, Any] = {"neurons": units * len(LAYERS), "evaluations": evaluations}
    for workers in (1, 2):
        out = folder / f"speed-{workers}"
        words = ["efficientnet-lite0", "--layers", *LAYERS, "--units", f"0-{units - 1}", "--steps", str(evaluations)]
        words += ["--images", str(images), "--workers", str(workers), "--device", "cpu", "-q", "--out", str(out)]
        began = time.time()
        running = subprocess.Popen([*COMMAND, *words], env=os.environ | {"OMP_NUM_THREADS": "1"})
        first, most, last, before = 0.0, 0, 0.0, 0
        while running.poll() is None:
            time.sleep(0.05)
            count = finished(out)
            if count and not first:
                first, most = time.time(), count
            if count > before:
                last, before = time.time(), count
        ended = time.time()
        if running.returncode:
            raise SystemExit(f"the atlas ended with exit code {running.returncode}")
        rate = (before - most) / (last - first)
        found[f"workers_{workers}"] = {"seconds": ended - began, "neurons_an_hour": 3600 * rate}
    one, two = found["workers_1"], found["workers_2"]
    found["whole_command_times"] = one["seconds"] / two["seconds"]
    found["neurons_times"] = two["neurons_an_hour"] / one["neurons_an_hour"]
    return found


def finished(out: Path) -> int:
    """Neurons that are on the disk, in the folder of a shard that is being made, a published one, or both."""
    made = {(path.parent.name[1:6], path.stem) for path in out.glob("shards/.*.partial/[0-9]*.safetensors")}
    published = out.glob("shards/[0-9]*/images/*-in-place.webp")
    return len(made | {(path.parents[1].name, path.name.partition("-")[0]) for path in published})


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["engine", "speed", "simulation", "restarts"], action="append")
    parser.add_argument("--images", type=Path, help="a folder of photographs, for `speed`")
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--evaluations", type=int, default=64)
    parser.add_argument("--neurons", type=int, default=100_000, help="of the simulation; at most 100,000")
    parser.add_argument("--scratch", type=Path, help="where the atlases are made; a temporary folder if not given")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    wanted = given.only or ["engine", "speed"]
    found: dict[str, Any] = json.loads(given.out.read_text()) if given.out and given.out.exists() else {}
    found["environment"] = environment(torch.device("cpu")) | {"cores": str(os.cpu_count())}
    with tempfile.TemporaryDirectory(dir=given.scratch) as scratch:
        folder = Path(scratch)
        if "engine" in wanted:
            found["engine"] = engine(folder, given.units, given.evaluations)
        if "speed" in wanted:
            if given.images is None:
                parser.error("speed needs --images")
            found["speed"] = speed(folder, given.images, given.units, given.evaluations)
        if "simulation" in wanted:
            found["simulation"] = simulation(folder, given.neurons)
        if "restarts" in wanted:
            if given.scratch is None:
                parser.error("restarts needs --scratch, a folder with a simulation that was stopped")
            found["restarts"] = restarts(given.scratch, given.neurons)
    print(found)
    if given.out is not None:
        write_json(given.out, found)


if __name__ == "__main__":
    main()
