"""Makes the pictures of the documentation: all, or those named on the command line.

    python docs/make_pictures.py --photographs FOLDER
    python docs/make_pictures.py chain.png dataset.jpg

Photographs that are not given are test pictures of scikit-image, which must then be installed. Pictures of pages need
Chromium and playwright.
`compare-cheeseburger.png` is the contact sheet of `gen-prior compare cheeseburger`, `reconstructions.png` is written by
`benchmarks/reconstruction.py`, the sheets of targets and `starts.jpg` by `benchmarks/target_sheet.py`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import page_pictures
import torch
from torch import Tensor

import gen_prior as gp
from gen_prior import objectives
from gen_prior.applications.dataset import read_samples
from gen_prior.applications.encode import encode, square
from gen_prior.applications.evolve import activation_score
from gen_prior.optimise.presets import fitting_presets, preset_options
from gen_prior.util.image_io import read_image, to_pil, write_png
from gen_prior.util.mosaic import mosaic

DEPTHS = ("blocks.2", "blocks.6", "blocks.12")
UNIT = "blocks.4:7"


@dataclass(frozen=True)
class Inputs:
    """The models and photographs that pictures are made from."""

    classifier: gp.Classifier
    prior: gp.Generator
    photograph: Tensor
    large: Tensor
    photographs: Path | None


def dream_cat(given: Inputs) -> Tensor:
    """DeepDream on the photograph."""
    return gp.dream(given.classifier, given.photograph, "blocks.9")


def dream_sky(given: Inputs) -> Tensor:
    """The same on a large photograph, in tiles."""
    return gp.dream(given.classifier, given.large, "blocks.9")


def dream_frames(given: Inputs) -> Tensor:
    """First, fourth and last frame of the feedback loop."""
    frames = list(
        gp.dream_frames(given.classifier, given.photograph, "blocks.9", frames=8, zoom=1.05, rotate=1, steps=6)
    )
    return mosaic([[frames[0], frames[3], frames[7]]], side=430)


def dream_through(given: Inputs) -> Tensor:
    """The photograph, its code, and dreams at three strengths."""
    photo, code = square(given.photograph), encode(given.prior, given.photograph)
    start = given.prior(code[None])[0]
    row, words = [photo, start], ["photograph", "its code"]
    numbers = [""]
    for strength in (0.1, 0.3, 0.5):
        result = gp.dream_through(given.classifier, given.prior, code, target="tabby", strength=strength, steps=60)
        numbers += [f"tabby {result.start_activations.item():.1f}"] if len(numbers) == 1 else []
        numbers.append(f"tabby {result.activations.item():.1f}")
        row.append(result.images[0, 0])
        words.append(f"strength {strength}")
    return mosaic([row], captions=[numbers], column_names=words)


def inversion(given: Inputs) -> Tensor:
    """Reconstructions from four depths, through the prior and in pixels."""
    generators = {"dgn-lite0": given.prior, "pixel": gp.load_generator("pixel")}
    return gp.invert(
        given.classifier, given.photograph, ["blocks.1", "blocks.5", "blocks.10", "logits"], generators
    ).sheet()


def hidden_channels(given: Inputs) -> Tensor:
    """Sixteen whole channels, evenly spread, at each of three depths."""
    rows: list[list[Tensor | None]] = []
    for layer in DEPTHS:
        count = given.classifier.layer_shape(layer)[0]
        units = [round(index * (count - 1) / 15) for index in range(16)]
        targets = [objectives.channel(layer, unit) for unit in units]
        images = list(gp.synthesize(given.classifier, targets, given.prior, steps=48).images[:, 0])
        rows += [images[:8], images[8:]]
    names = [name for layer in DEPTHS for name in (layer, "")]
    return mosaic(rows, row_names=names, side=112)


def hidden_unit(given: Inputs) -> Tensor:
    """A unit's synthesised images above the photographs that excite it most and what it saw of them."""
    made = gp.synthesize(given.classifier, UNIT, given.prior, seeds=2, steps=128)
    with tempfile.TemporaryDirectory() as folder:
        photographs = given.photographs or squares_of_test_pictures(Path(folder))
        found = gp.find_exemplars(given.classifier, UNIT, photographs, count=8, on_bad=print)
    return mosaic(
        [list(made.images[0]), [each.image for each in found], [each.seen for each in found]],
        captions=[
            [f"{value:.3g}" for value in made.activations[0].tolist()],
            [f"{each.activation:.3g}" for each in found],
            [],
        ],
        row_names=["synthesised", "natural", "seen by the unit"],
        side=112,
    )


def kinds_of_objective(given: Inputs) -> Tensor:
    """One picture for every kind of objective, through the prior and in Fourier space."""
    seen = given.classifier.activations(square(given.photograph)[None], ["blocks.13"])["blocks.13"][0].mean((1, 2))
    listed: dict[str, str | gp.Objective] = {
        "class goldfish": "goldfish",
        "neuron, one position": objectives.neuron("blocks.10", 42),
        "channel": objectives.channel("blocks.10", 42),
        "channel 42 without 7": objectives.units("blocks.10", {42: 1.0, 7: -1.0}),
        "the cat's direction": objectives.direction("blocks.13", seen, cosine_power=2.0),
        "layer, L2": objectives.layer_l2("blocks.6"),
        "goldfish + daisy": objectives.channel("logits", 1) + objectives.channel("logits", 985),
    }
    generators = {"dgn-lite0": given.prior, "fourier": gp.load_generator("fourier")}
    made = {
        name: gp.synthesize(given.classifier, list(listed.values()), generator, steps=96)
        for name, generator in generators.items()
    }
    captions = [[f"{value:.3g}" for value in result.activations[:, 0].tolist()] for result in made.values()]
    rows = [list(result.images[:, 0]) for result in made.values()]
    return mosaic(rows, captions=captions, row_names=list(made), column_names=list(listed), side=128)


def diversity(given: Inputs) -> Tensor:
    """Four seeds on their own, and the same four pushed apart."""
    rows, captions = [], []
    for weight in (0.0, 100.0):
        results = gp.synthesize_apart(
            given.classifier, "blocks.12:13@mean", given.prior, "blocks.5", weight=weight, seeds=6, steps=64
        )
        rows.append([result.images[0, 0] for result in results])
        captions.append([f"{result.activations.item():.2f}" for result in results])
    return mosaic(rows, captions=captions, row_names=["seeds alone", "pushed apart"], side=128)


def transparency(given: Inputs) -> Tensor:
    """Images, their opacity, and both over a checkerboard."""
    clear, generator = gp.Transparency(), gp.load_generator("maco")
    result = gp.synthesize(
        given.classifier,
        ["goldfish", "monarch", "pizza"],
        generator,
        recipe=gp.preset("maco2023"),
        record=clear,
    )
    pictures = clear.rgba(result.images)[:, 0]
    side = pictures.shape[-1]
    squares = torch.arange(side) // (side // 12) % 2
    ground = 0.65 + 0.3 * (squares[:, None] ^ squares[None])
    rows = [[rgba[:3], rgba[3:].expand(3, -1, -1), rgba[:3] * rgba[3:] + ground * (1 - rgba[3:])] for rgba in pictures]
    across = [list(row) for row in zip(*rows, strict=True)]
    return mosaic(
        across, row_names=["image", "opacity", "over a ground"], column_names=["goldfish", "monarch", "pizza"]
    )


def trajectory(given: Inputs) -> Tensor:
    """Eight steps of one synthesis and its result, through the prior and in Fourier space."""
    rows, names, shares = [], [], []
    for generator in (given.prior, gp.load_generator("fourier")):
        steps = generator.recipe.steps
        recorder = gp.Recorder(every=steps // 7)
        gp.synthesize(given.classifier, "monarch", generator, record=recorder)
        rows.append([frame.float() / 255 for frame in recorder.frames[0]])
        names.append(generator.name)
        shares = [f"after {100 * step // steps} %" for step in range(0, steps, recorder.every)]  # the same of both
    return mosaic(rows, row_names=names, column_names=[*shares, "result"], side=112)


def evolution(given: Inputs) -> Tensor:
    """The best picture so far of two searches without gradients."""
    rows, captions, names, marks = [], [], ["African elephant", "pizza"], (0, 100, 250, 500, 1000, 2000)
    for target in names:
        search, score = gp.Evolution(given.prior, seed=0), activation_score(given.classifier, target)
        row, numbers = [], []
        for mark in marks:
            gp.evolve(search, score, evaluations=max(mark, 1))
            assert search.best_code is not None
            row.append(given.prior(search.best_code[None])[0])
            numbers.append(f"{search.evaluations} images: {search.best_score:.1f}")
        rows.append(row)
        captions.append(numbers)
    return mosaic(rows, captions=captions, row_names=names, side=128)


def chain(given: Inputs) -> Tensor:
    """The images that one chain kept, and after how many steps."""
    kept = gp.sample_chain(
        given.classifier, "goldfish", given.prior, iterations=400, reset=50, every=10, threshold=0.9, apart=0.8
    )
    pairs = zip(kept.iterations, kept.scores.tolist(), strict=True)
    captions = [f"step {step}: p {probability:.2f}" for step, probability in pairs]
    return mosaic([list(kept.images[:8])], captions=[captions[:8]], side=112)


def presets(given: Inputs) -> Tensor:
    """Every published setting for images, as published."""
    cells, names = [], [name for name in fitting_presets("image") if gp.preset(name).domain == "image"]
    for name in names:
        generator = gp.load_generator(gp.preset_generator(name), **preset_options(name))
        result = gp.synthesize(given.classifier, "goldfish", generator, recipe=gp.preset(name))
        cells.append((result.images[0, 0], f"{name} {result.activations.item():.0f}"))
    rows = [cells[start : start + 5] for start in range(0, len(cells), 5)]
    return mosaic([[image for image, _ in row] for row in rows], captions=[[word for _, word in row] for row in rows])


def dataset(given: Inputs) -> Tensor:
    """Labelled images of five classes, and what the judge says of each."""
    classes, judge = ["goldfish", "monarch", "pizza", "school bus", "orange"], gp.load_classifier("efficientnet-lite2")
    rows, captions = [], []
    with tempfile.TemporaryDirectory() as folder:
        gp.make_dataset(
            given.classifier, given.prior, folder, classes=classes, per_class=5, judge=judge, shard_size=0, steps=48
        )
        for name in classes:
            samples = [sample for sample in read_samples(folder) if sample.class_name == name]
            rows.append([read_image(Path(folder) / sample.file) for sample in samples])
            captions.append([f"judge: p {sample.judge_probability:.2f}" for sample in samples])
    return mosaic(rows, captions=captions, row_names=classes, side=112)


def targets(given: Inputs) -> Tensor:
    """Classes, a sum and a difference of them, the least of one, and a difference of two units."""
    names = ["goldfish", "monarch", "goldfish+monarch", "goldfish-monarch", "-goldfish", "blocks.10:0-blocks.10:1"]
    result = gp.synthesize(given.classifier, names, given.prior)
    numbers = [f"{value:.1f}" for value in result.activations[:, 0].tolist()]
    terms = [", ".join(f"{value:.1f}" for value in row[0]) for row in result.terms]
    captions = [f"{number} ({parts})" if parts else number for number, parts in zip(numbers, terms, strict=True)]
    return mosaic([list(result.images[:, 0])], captions=[captions], column_names=names, side=160)


def dictionaries(given: Inputs) -> Tensor:
    """Two channels, and the latents of a dictionary of these channels, their sum and their difference."""
    columns = torch.zeros(given.classifier.layer_shape("blocks.6")[0], 4)
    columns[:2] = torch.tensor([[1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, -1.0]])
    columns = columns / columns.norm(dim=0)
    with tempfile.TemporaryDirectory() as folder:
        gp.Dictionary(columns, decoder=columns.T, layer="blocks.6").save(folder)
        names = ["blocks.6:0", "blocks.6:1", *(f"blocks.6/sae:{folder}:{latent}" for latent in range(4))]
        result = gp.synthesize(given.classifier, names, given.prior)
    captions = [f"{value:.2f}" for value in result.activations[:, 0].tolist()]
    words = [
        "channel 0",
        "channel 1",
        "latent 0: channel 0",
        "latent 1: channel 1",
        "latent 2: sum",
        "latent 3: difference",
    ]
    return mosaic([list(result.images[:, 0])], captions=[captions], column_names=words, side=160)


def morphs(given: Inputs) -> Tensor:
    """Two paths between classes, and how strongly both ends respond along them."""
    rows, captions = [], []
    for ends in (["goldfish", "monarch"], ["cheeseburger", "school bus"]):
        made = gp.morph(given.classifier, ends, given.prior, frames=9)
        rows.append(list(made.images))
        captions.append([", ".join(f"{value:.0f}" for value in row) for row in made.activations.tolist()])
    return mosaic(rows, captions=captions, side=112)


def drawn(given: Inputs, target: str) -> Tensor:
    """The prior's image of a class, to work on as if it were a photograph."""
    return gp.synthesize(given.classifier, target, given.prior).images[0, 0]


def dreams_like(given: Inputs) -> Tensor:
    """A picture, dreamt with a guide and with a style, each beside it."""
    picture, guide = (drawn(given, name) for name in ("golden retriever", "daisy"))
    style = gp.synthesize(given.classifier, "blocks.5:20@mean", "fourier", scale="image").images[0, 0]
    guided = gp.dream(given.classifier, picture, "blocks.11", guide=guide)
    styled = gp.dream(given.classifier, picture, style=style)
    words = ["picture", "guide", "with this guide", "style", "with this style"]
    return mosaic([[picture, guide, guided, style, styled]], column_names=words, side=176)


def accentuated(given: Inputs) -> Tensor:
    """A picture, accentuated towards two classes and a unit in Fourier coefficients and through the prior."""
    picture = drawn(given, "golden retriever")
    targets = ["golden retriever", "tabby", "blocks.10:42"]
    rows, captions = [], []
    for generator in ("fourier", given.prior):
        made = gp.accentuate(given.classifier, picture, targets, generator)
        rows.append([made.start, *(one.image for one in made.images)])
        numbers = [f"{one.start_activation:.1f} to {one.activation:.1f}, {one.distance:.2f}" for one in made.images]
        captions.append(["", *numbers])
    return mosaic(
        rows, captions=captions, row_names=["fourier", "dgn-lite0"], column_names=["picture", *targets], side=176
    )


def activation_atlas(given: Inputs) -> Tensor:
    """The page of an activation atlas."""
    with tempfile.TemporaryDirectory() as folder:
        photographs = given.photographs or squares_of_test_pictures(Path(folder))
        return page_pictures.activation_atlas(given.classifier, given.prior, photographs)


PICTURES: dict[str, Callable[[Inputs], Tensor]] = {
    "dream-cat.jpg": dream_cat,
    "dream-sky.jpg": dream_sky,
    "dream-frames.jpg": dream_frames,
    "dream-through.png": dream_through,
    "inversion.png": inversion,
    "hidden-channels.jpg": hidden_channels,
    "hidden-unit.jpg": hidden_unit,
    "objectives.jpg": kinds_of_objective,
    "diversity.png": diversity,
    "transparency.jpg": transparency,
    "trajectory.jpg": trajectory,
    "morphs.jpg": morphs,
    "dreams-like.jpg": dreams_like,
    "accentuated.jpg": accentuated,
    "evolution.png": evolution,
    "chain.png": chain,
    "presets.jpg": presets,
    "dataset.png": dataset,
    "targets.jpg": targets,
    "dictionaries.jpg": dictionaries,
    "atlas.jpg": lambda _: page_pictures.atlas_overview(),
    "activation-atlas.jpg": activation_atlas,
}


def test_picture(name: str) -> Tensor:
    """One of scikit-image's."""
    from skimage import data

    pixels: Tensor = torch.from_numpy(getattr(data, name)().copy()).permute(2, 0, 1).float() / 255
    return pixels


def squares_of_test_pictures(folder: Path) -> Path:
    """`folder`, with overlapping squares of 200 pixels of scikit-image's photographs in it."""
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        picture = test_picture(name)
        for top in range(0, picture.shape[1] - 199, 100):
            for left in range(0, picture.shape[2] - 199, 100):
                path = folder / f"{name}-{top}-{left}.png"
                write_png(path, picture[:, top : top + 200, left : left + 200])
    return folder


def main() -> None:
    """Make the pictures that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *PICTURES], help=", ".join(PICTURES))
    parser.add_argument("--photograph", type=Path)
    parser.add_argument("--large", type=Path, help="a photograph of about 1000 pixels")
    parser.add_argument("--photographs", type=Path, help="a folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    options = parser.parse_args()
    photograph = read_image(options.photograph) if options.photograph else test_picture("chelsea")
    large = read_image(options.large) if options.large else test_picture("hubble_deep_field")
    classifier, prior = gp.load_classifier("efficientnet-lite0"), gp.load_generator("dgn-lite0")
    given = Inputs(classifier, prior, photograph, large, options.photographs)
    for name in options.names or PICTURES:
        began = time.perf_counter()
        picture = PICTURES[name](given)
        path = options.out / name
        if path.suffix == ".png":
            write_png(path, picture)
        else:
            to_pil(picture).save(path, quality=88)
        seconds = time.perf_counter() - began
        print(f"{name}: {tuple(picture.shape[1:])}, {path.stat().st_size // 1024} KB, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
