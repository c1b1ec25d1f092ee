"""Speed beside other libraries for feature visualisation, at the same work, in interleaved repeats.

    pip install torch-lucent 'kornia==0.4.1' dreamlens horama einops
    python benchmarks/peers.py --out benchmarks/results/peers.json

Eight channels of `blocks.10` of EfficientNet-Lite0, one image of 224 pixels each, 16 steps, Fourier coefficients with
each library's own transforms; whole calls, as their documentation shows them (lucent takes eight images as a batch, the
others one after the other). The ratios are those of neighbouring calls; the median of five counts, because other work
on the machine slows both. Times are of the process on its cores (`cpu`) and of the clock (`wall`); with one thread
(OMP_NUM_THREADS=1) the first does not count what others do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import dreamlens
import horama
import torch
from lucent.optvis import objectives, param, render
from torch import Tensor

import gen_prior as gp
from gen_prior.classifiers import efficientnet_lite
from gen_prior.util.devices import environment
from gen_prior.util.files import write_json

LAYER, UNITS, SIDE = "blocks.10", range(8), 224
PEERS = {"lucent": "torch-lucent", "dreamlens": "dreamlens", "horama": "horama"}


def calls(steps: int) -> dict[str, Callable[[], object]]:
    """For each library and mode a call that makes an image of each unit."""
    classifier = gp.load_classifier("efficientnet-lite0", device="cpu")
    network = efficientnet_lite.build("efficientnet-lite0").requires_grad_(False)
    visualizer = dreamlens.FeatureVisualizer(network, normalize=True)
    targets = [f"{LAYER}:{unit}@mean" for unit in UNITS]

    def ours(name: str) -> object:
        generator = gp.load_generator(name, device="cpu")
        recipe = generator.recipe.with_options(steps=steps, candidates=1, trials=1, scale="image")
        return gp.synthesize(classifier, targets, generator, recipe=recipe)

    def by_lucent() -> object:
        scores = [objectives.channel(LAYER.replace(".", "_"), unit, batch=place) for place, unit in enumerate(UNITS)]
        image = lambda: param.image(SIDE, batch=len(UNITS))  # noqa: E731
        return render.render_vis(
            network, sum(scores[1:], scores[0]), image, thresholds=(steps,), progress=False, show_image=False
        )

    def by_dreamlens() -> object:
        config = dreamlens.RenderConfig(width=SIDE, height=SIDE, steps=steps)
        return [
            visualizer.visualize(dreamlens.FeatureTarget.for_channel(LAYER, unit, reduction="mean"), config=config)
            for unit in UNITS
        ]

    def by_horama() -> object:
        return [_horama(network, unit, steps) for unit in UNITS]

    return {
        "gen-prior fourier": lambda: ours("fourier"),
        "gen-prior dgn-lite0": lambda: ours("dgn-lite0"),
        "lucent": by_lucent,
        "dreamlens": by_dreamlens,
        "horama": by_horama,
    }


def _horama(network: torch.nn.Module, unit: int, steps: int) -> object:
    """Two crops, the fewest that it takes, at each of half as many steps."""
    seen: list[Tensor] = []
    handle = network.get_submodule(LAYER).register_forward_hook(lambda module, inputs, output: seen.append(output))

    def score(images: Tensor) -> Tensor:
        seen.clear()
        network(images)
        return seen[0][:, unit].mean()

    try:
        return horama.fourier(
            score,
            total_steps=steps // 2,
            image_size=SIDE,
            model_input_size=SIDE,
            crops_per_iteration=2,
            device="cpu",
        )
    finally:
        handle.remove()


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    methods = calls(arguments.steps)
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in methods}
    for repeat in range(arguments.repeats + 1):  # the first one warms up
        for name, call in methods.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
            if repeat:
                seconds[name].append({clock: round(value, 2) for clock, value in took.items()})
            print(repeat, name, json.dumps(took), file=sys.stderr, flush=True)
    evaluations = arguments.steps * len(UNITS)
    clocks = ("wall", "cpu")
    record = {
        "what": f"{len(UNITS)} channels of {LAYER} of EfficientNet-Lite0, {SIDE} px, {arguments.steps} steps",
        "command": f"python benchmarks/peers.py --steps {arguments.steps} --repeats {arguments.repeats}",
        "environment": environment(torch.device("cpu")),
        "versions": {package: metadata.version(package) for package in PEERS.values()},
        "evaluations_per_second": {
            name: {clock: round(evaluations / statistics.median(one[clock] for one in took), 2) for clock in clocks}
            for name, took in seconds.items()
        },
        "fourier_is_faster_by": {
            name: {clock: _ratio(seconds[name], seconds["gen-prior fourier"], clock) for clock in clocks}
            for name in methods
            if name != "gen-prior fourier"
        },
        "seconds": seconds,
    }
    write_json(arguments.out, record)


def _ratio(other: list[dict[str, float]], own: list[dict[str, float]], clock: str) -> float:
    """Median over repeats of the other's time in units of ours in the same repeat."""
    return round(statistics.median(one[clock] / two[clock] for one, two in zip(other, own, strict=True)), 2)


if __name__ == "__main__":
    main()
