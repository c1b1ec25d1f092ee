"""CMA-ES against a genetic algorithm of equal evaluations: `python benchmarks/evolution.py`.

For each target and seed every search scores as many images, by forward passes only; reported is the best
activation found. A search is a method, the principal directions it searches and its population; None is the default.
Writes benchmarks/results/evolution.json.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from gen_prior.classifiers import load_classifier
from gen_prior.evolution import Evolution, activation_score, evolve
from gen_prior.files import write_json
from gen_prior.generators import load_generator

SEARCHES = (
    ("genetic", None, 40),
    ("genetic", 64, 40),
    ("sep-cma", None, 40),
    ("cma", 64, None),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=["goldfish", "monarch", "blocks.10:42"])
    parser.add_argument("--evaluations", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "evolution.json")
    options = parser.parse_args()
    classifier, generator = load_classifier("efficientnet-lite0"), load_generator("dgn-lite0")
    runs: list[dict[str, Any]] = []
    for target in options.targets:
        score = activation_score(classifier, target)
        for seed in range(options.seeds):
            for method, numbers, population in SEARCHES:
                began = time.perf_counter()
                evolution = Evolution(generator, method=method, population=population, numbers=numbers, seed=seed)
                evolve(evolution, score, evaluations=options.evaluations)
                seconds = round(time.perf_counter() - began, 1)
                run = {"target": target, "seed": seed, "search": _name(evolution)}
                run |= {"evaluations": evolution.evaluations, "best": round(evolution.best_score, 4)}
                run |= {"first_generation": round(float(evolution.scores[0].max()), 4), "seconds": seconds}
                runs.append(run)
                print(run, flush=True)
                write(options, generator.describe(), runs)


def _name(evolution: Evolution) -> str:
    settings = evolution.settings
    return f"{settings['method']}, {settings['numbers']} numbers, population {settings['population']}"


def write(options: argparse.Namespace, generator: dict[str, Any], runs: list[dict[str, Any]]) -> None:
    """The record so far: medians over targets and seeds, every run, what it ran on."""
    medians = {
        search: statistics.median(run["best"] for run in runs if run["search"] == search)
        for search in dict.fromkeys(run["search"] for run in runs)
    }
    record = {
        "evaluations": options.evaluations,
        "median_best_activation": medians,
        "runs": runs,
        "generator": {"name": generator["name"], "sha256": generator["sha256"]},
        "machine": {"cpu": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
    }
    write_json(options.out, record)


if __name__ == "__main__":
    main()
