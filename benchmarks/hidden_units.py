"""Activations of hidden units through the prior, with and without selected starts, and in Fourier space.

    python benchmarks/hidden_units.py --out benchmarks/results/hidden_units.json

Sixteen units, four at each of four depths, evenly spread over the channels, at the centre position; one seed, 128
evaluations. Each activation is divided by the largest of all methods, so that units of different scale count alike.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path
from typing import Any

import torch

import gen_prior as gp
from gen_prior.util.files import write_json

LAYERS, UNITS = ("blocks.3", "blocks.6", "blocks.9", "blocks.12"), 4
EVALUATIONS = 128
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "dgn-lite0": ("dgn-lite0", {}),
    "dgn-lite0, best of 32 starts": ("dgn-lite0", {"candidates": 32, "trials": 1}),
    "dgn-lite0, eight starts tried": ("dgn-lite0", {"candidates": 8, "trials": 8, "rate": 0.4}),
    "dgn-lite0-gaussian": ("dgn-lite0-gaussian", {}),
    "fourier": ("fourier", {}),
}


def main() -> None:
    """Synthesise through each method and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    source = gp.load_classifier("efficientnet-lite0")
    targets = []
    for layer in LAYERS:
        count = source.layer_shape(layer)[0]
        targets += [f"{layer}:{(2 * index + 1) * count // (2 * UNITS)}" for index in range(UNITS)]
    reached = {}
    for name, (method, settings) in METHODS.items():
        generator = gp.load_generator(method)
        recipe = generator.recipe.with_options(**settings).within(EVALUATIONS)
        result = gp.synthesize(source, targets, generator, recipe=recipe, precision=options.precision)
        reached[name] = result.activations[:, 0]
    best = torch.stack(list(reached.values())).max(0).values
    report: dict[str, Any] = {
        "units": targets,
        "share_of_best": {name: float((found / best).mean()) for name, found in reached.items()},
        "activations": {name: found.tolist() for name, found in reached.items()},
        "machine": {"torch": torch.__version__, "processor": platform.machine(), "device": str(source.device)},
    }
    for name, share in report["share_of_best"].items():
        print(f"{name}: {share:.2f}")
    if options.out is not None:
        write_json(options.out, report)


if __name__ == "__main__":
    main()
