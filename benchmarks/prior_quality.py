"""Quality of the embedded prior beside the pixel-space modes: a held-out judge, Fréchet distance, diversity.

    python benchmarks/prior_quality.py --photographs DIR --tiny DIR --classes 200 --seeds 2

`--photographs`: 1000 full-size ImageNet photographs in class order, named `n01440764_*.JPEG`. The 421 of them that
show no class the prior was trained on, among them all the unseen ones, are the natural reference of the Fréchet and
kernel distances; the distances of the last stage's 500 training photographs are those of photographs. A Fréchet
distance of so few images is far too large, so compare it between sets of equal size; the kernel distance has no
such bias.
`--tiny`: Tiny ImageNet (`train/WNID/images/*.JPEG`): its 200 classes are the seen ones, and pairs of its photographs
give the diversity of real images of one class.
All methods: the same classes and seeds, 128 classifier evaluations an image, source lite0, judge lite2.
Each class's verdicts are kept as they come in `--work`; a second call goes on from there, also with more `--classes`:
fewer are always among them. Methods that `--methods` leaves out keep the numbers that `--out` holds of them, if the
protocol is the same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gen_prior as gp
from gen_prior.classifiers.labels import imagenet
from gen_prior.report.distances import bootstrap_interval, diversity, frechet_distance, kernel_distance
from gen_prior.report.metrics import logits_and_features
from gen_prior.util.files import write_json
from gen_prior.util.image_io import read_image
from gen_prior.util.resample import centre_crop

METHODS = ("dgn-lite0", "fourier", "maco", "pixel", "pixel-raw")
EVALUATIONS = 128
"""Classifier evaluations per image: those that select a start, and one per step."""
CHUNK = 8
NAMES_IN_KEYS = {"norm_sphere": "shell"}
"""Names that have changed since verdicts were first kept, whose files are found by the old ones."""
SELECTION_SEED = 1
GROUP, REFERENCE = 200, 500
TRAINED_CLASSES = Path(__file__).parents[1] / "weights" / "make" / "mini-imagenet-classes.txt"
"""WordNet IDs of the classes beside Tiny ImageNet's that the flow learned from."""


def selected_classes(tiny: Path, count: int) -> dict[str, list[int]]:
    """`count` classes that the prior's training photographs belong to, and `count` others; drawn with a fixed seed."""
    known = set((tiny / "wnids.txt").read_text().split())
    labels = imagenet().entries
    groups = {
        "seen": [label.index for label in labels if label.wordnet_id in known],
        "unseen": [label.index for label in labels if label.wordnet_id not in known],
    }
    source = torch.Generator().manual_seed(SELECTION_SEED)
    return {
        name: sorted(members[i] for i in torch.randperm(len(members), generator=source)[:count].tolist())
        for name, members in groups.items()
    }


def reference_classes(tiny: Path) -> tuple[list[int], list[int]]:
    """Classes of the photographs that are the natural reference, and of those that the last stage was trained on.

    The first are those of 500 classes, with all unseen ones of the full protocol among them, that the prior was not
    trained on; the second are the other 500.
    """
    unseen = selected_classes(tiny, GROUP)["unseen"]
    apart = {*unseen, *[index for index in range(1000) if index not in set(unseen)][: REFERENCE - GROUP]}
    trained = {*(tiny / "wnids.txt").read_text().split(), *TRAINED_CLASSES.read_text().split()}
    clean = [index for index in sorted(apart) if imagenet().entries[index].wordnet_id not in trained]
    return clean, [index for index in range(1000) if index not in apart]


def verdicts(
    method: str, classes: list[int], seeds: int, judge: gp.Classifier, source: gp.Classifier, work: Path, precision: str
) -> dict[str, Tensor]:
    """Judge's logits `[N, K]` and features `[N, D]`, source activations `[N]`; items are classes x seeds."""
    generator = gp.load_generator(method, device=source.device)
    recipe = generator.recipe.within(EVALUATIONS)
    run = json.dumps([generator.describe(), recipe.to_dict(), precision], sort_keys=True)
    for name, name_in_key in NAMES_IN_KEYS.items():
        run = run.replace(f'"{name}"', f'"{name_in_key}"')
    run = run.replace(', "scale": "unit"', "")  # concerns hidden units only
    run_hash = hashlib.sha256(run.encode()).hexdigest()[:12]

    def kept(index: int) -> Path:
        return work / f"{method}-{run_hash}-{index}-{seeds}.pt"

    missing = [index for index in classes if not kept(index).exists()]
    for start in range(0, len(missing), CHUNK):
        chunk = missing[start : start + CHUNK]
        began = time.perf_counter()
        result = gp.synthesize(
            source, [str(index) for index in chunk], generator, seeds=seeds, recipe=recipe, precision=precision
        )
        logits, features = logits_and_features(judge, result.images.flatten(0, 1))
        seconds = torch.tensor([(time.perf_counter() - began) / len(chunk)])
        result.save(work / "images" / method)
        parts = zip(chunk, logits.split(seeds), features.split(seeds), result.activations, strict=True)
        for index, of_judge, of_image, activations in parts:
            part = {"logits": of_judge, "features": of_image, "activations": activations, "seconds": seconds}
            partial = kept(index).with_suffix(".partial")
            torch.save({name: value.clone() for name, value in part.items()}, partial)
            partial.replace(kept(index))
        print(f"{method}: {start + len(chunk)} of {len(missing)} classes", file=sys.stderr)
    tensors = [torch.load(kept(index), weights_only=True) for index in classes]
    return {name: torch.cat([part[name] for part in tensors]) for name in tensors[0]}


def photograph_features(paths: list[Path], judge: gp.Classifier) -> Tensor:
    """The judge's features `[N, D]` of the centre squares of photographs, at the judge's input size."""
    squares = []
    for path in paths:
        image = read_image(path)
        side = min(image.shape[-2:])
        squares.append(judge.resize(centre_crop(image, side, side)[None]))
    return logits_and_features(judge, torch.cat(squares))[1]


def pair_diversity(tiny: Path, classes: list[int], seeds: int, judge: gp.Classifier) -> list[float]:
    """Diversity of `seeds` photographs of each class, measured like that of images over seeds."""
    values = []
    for index in classes:
        folder = tiny / "train" / str(imagenet().entries[index].wordnet_id) / "images"
        spread = diversity(photograph_features(sorted(folder.glob("*.JPEG"))[:seeds], judge))
        if spread is not None:
            values.append(spread)
    return values


def summary(found: dict[str, Tensor], classes: list[int], seeds: int) -> dict[str, Any]:
    """Top-1 and top-5 of the judge with bootstrap intervals, activation, diversity over seeds."""
    wanted = torch.tensor(classes).repeat_interleave(seeds)
    top = found["logits"].topk(5, 1).indices
    first, five = (top[:, 0] == wanted).double(), (top == wanted[:, None]).any(1).double()
    spread = [value for part in found["features"].split(seeds) if (value := diversity(part)) is not None]
    return {
        "images": len(wanted),
        "judge_top1": float(first.mean()),
        "judge_top1_interval": list(bootstrap_interval(first.tolist(), statistic="mean")),
        "judge_top5": float(five.mean()),
        "source_activation": float(found["activations"].mean()),
        "diversity": mean_or_none(spread),
        "seconds": float(found["seconds"].sum()),
    }


def distances(features: Tensor, natural: Tensor) -> dict[str, float]:
    """Distances of the judge's features `[N, D]` from those of the natural reference."""
    return {
        "frechet_distance": frechet_distance(features, natural),
        "kernel_distance": kernel_distance(features, natural),
    }


def kept_rows(path: Path, protocol: dict[str, Any]) -> dict[str, Any]:
    """Rows of methods in an earlier report at `path`; empty unless its protocol is the same."""
    if not path.exists():
        return {}
    earlier = json.loads(path.read_text())
    same = all(earlier.get(key) == value for key, value in protocol.items())
    return dict(earlier["methods"]) if same else {}


def mean_or_none(values: list[float]) -> float | None:
    """Mean of `values`; None if there are none."""
    return sum(values) / len(values) if values else None


def method_row(
    method: str,
    groups: dict[str, list[int]],
    natural: Tensor,
    judge: gp.Classifier,
    source: gp.Classifier,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """The report's row of one method: a summary of each group of classes, distances, generator and recipe."""
    row: dict[str, Any] = {}
    features = []
    for group, classes in groups.items():
        found = verdicts(method, classes, options.seeds, judge, source, options.work, options.precision)
        row[group] = summary(found, classes, options.seeds)
        features.append(found["features"])
    row |= distances(torch.cat(features), natural)
    generator = gp.load_generator(method)
    return row | {"generator": generator.describe(), "recipe": generator.recipe.within(EVALUATIONS).to_dict()}


def main() -> None:
    """Run the protocol and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--tiny", type=Path, required=True)
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--work", type=Path, default=Path("prior-quality"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/prior_quality.json"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    source, judge = gp.load_classifier("efficientnet-lite0"), gp.load_classifier("efficientnet-lite2")
    groups = selected_classes(options.tiny, options.classes)
    photographs = photograph_features(sorted(options.photographs.glob("n*.JPEG")), judge)
    clean, learned = reference_classes(options.tiny)
    natural, others = photographs[clean], photographs[learned]
    protocol = {
        "protocol": __doc__,
        "classes": groups,
        "seeds": options.seeds,
        "evaluations": EVALUATIONS,
        "precision": options.precision,
        "reference": len(natural),
    }
    report: dict[str, Any] = protocol | {
        "machine": {"torch": torch.__version__, "threads": torch.get_num_threads(), "processor": platform.machine()},
        "photographs": {
            "images": len(others),
            "diversity": mean_or_none(pair_diversity(options.tiny, groups["seen"], options.seeds, judge)),
            **distances(others, natural),
        },
        "methods": kept_rows(options.out, protocol),
    }
    for method in options.methods:
        report["methods"][method] = method_row(method, groups, natural, judge, source, options)
        write_json(options.out, report)
        print(json.dumps({method: report["methods"][method]}, indent=1))


if __name__ == "__main__":
    main()
