"""CMA-ES beside a genetic algorithm with the same number of evaluations: `python benchmarks/evolution.py`.

For each target and seed, every search scores the same number of images, by forward passes only. The record holds the
best activation that each search found, and how often it beats every genetic algorithm. A search is a method, the
number of code dimensions that it searches, and its population; None is the library's default. Writes
benchmarks/results/evolution.json and keeps its runs with the same generator and evaluations.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from gen_prior.applications.evolve import Evolution, activation_score, evolve
from gen_prior.classifiers import load_classifier
from gen_prior.generators import load_generator
from gen_prior.util.files import write_json

BASELINE = "genetic"
SEARCHES = (
    (BASELINE, None, 40),
    (BASELINE, None, None),
    (None, None, None),
    ("cma", 64, None),
)
TARGETS = ["goldfish", "monarch", "African elephant", "pizza", "blocks.10:42"]


def main() -> None:
    """Run every search that the record does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=TARGETS)
    parser.add_argument("--evaluations", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "evolution.json")
    options = parser.parse_args()
    classifier, generator = load_classifier("efficientnet-lite0"), load_generator("dgn-lite0")
    runs = known(options, generator.describe())
    for target in options.targets:
        score = activation_score(classifier, target)
        for seed in range(options.seeds):
            for method, dims, population in SEARCHES:
                began = time.perf_counter()
                evolution = Evolution(generator, method=method, population=population, dims=dims, seed=seed)
                run = {"target": target, "seed": seed, "search": _name(evolution)}
                if any(found | run == found for found in runs):
                    continue
                evolve(evolution, score, evaluations=options.evaluations)
                seconds = round(time.perf_counter() - began, 1)
                run |= {"evaluations": evolution.evaluations, "best": round(evolution.best_score, 4)}
                run |= {"first_generation": round(float(evolution.scores[0].max()), 4), "seconds": seconds}
                runs.append(run)
                print(run, flush=True)
                write(options, generator.describe(), runs)


def _name(evolution: Evolution) -> str:
    """The search's name in the record; earlier records are found by it."""
    settings = evolution.settings
    return f"{settings['method']}, {settings['dims']} numbers, population {settings['population']}"


def known(options: argparse.Namespace, generator: dict[str, Any]) -> list[dict[str, Any]]:
    """Runs of an earlier record with the same generator and evaluations."""
    if not options.out.is_file():
        return []
    record = json.loads(options.out.read_text(encoding="utf-8"))
    same = record["evaluations"] == options.evaluations and record["generator"]["sha256"] == generator["sha256"]
    return list(record["runs"]) if same else []


def write(options: argparse.Namespace, generator: dict[str, Any], runs: list[dict[str, Any]]) -> None:
    """Write the record so far: medians over targets and seeds, every run, and the machine."""
    best: dict[str, dict[tuple[str, int], float]] = {}
    for run in runs:
        best.setdefault(run["search"], {})[run["target"], run["seed"]] = run["best"]
    medians = {search: round(statistics.median(found.values()), 4) for search, found in best.items()}
    genetic = [found for search, found in best.items() if search.startswith(BASELINE)]
    wins = {}
    for search, found in best.items():
        if not search.startswith(BASELINE):
            won = sum(all(value > rival.get(key, value) for rival in genetic) for key, value in found.items())
            wins[search] = f"{won} of {len(found)}"
    record = {
        "evaluations": options.evaluations,
        "median_best_activation": medians,
        "better_than_every_genetic_algorithm": wins,
        "runs": runs,
        "generator": {"name": generator["name"], "sha256": generator["sha256"]},
        "machine": {"cpu": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
    }
    write_json(options.out, record)


if __name__ == "__main__":
    main()
