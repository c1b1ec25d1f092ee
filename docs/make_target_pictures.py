"""Makes the pictures of the documentation that show targets, networks and sizes: all, or those that are named.

    python docs/make_target_pictures.py --photographs FOLDER
    python docs/make_target_pictures.py larger.jpg

Some take photographs (JPEG or PNG of 200 pixels or more), the more the better; 200 will do.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import gen_prior as gp
from gen_prior.applications.photograph_pass import statistics_of_units
from gen_prior.applications.photographs import as_seen, image_paths
from gen_prior.objectives.natural_statistics import KINDS, LEVELS
from gen_prior.util.image_io import read_image, to_pil
from gen_prior.util.mosaic import mosaic


def larger(photographs: Path) -> Tensor:
    """The same seed at 256, 512 and 1024 px, whole, and at the same place as large as it was drawn."""
    classifier, rows, numbers = gp.load_classifier("efficientnet-lite0"), [], []
    for side in (256, 512, 1024):
        result = gp.synthesize(
            classifier, ["monarch", "cheeseburger"], gp.load_generator("dgn-lite0", image_size=side), seeds=1
        )
        images = list(result.images[:, 0])
        middle, reach = side // 2, 128
        rows.append([*images, images[0][:, middle - reach : middle + reach, middle - reach : middle + reach]])
        numbers.append([f"{value:.1f}" for value in result.activations[:, 0].tolist()])
    words = ["monarch", "cheeseburger", "256 pixels of the first"]
    return mosaic(rows, captions=numbers, row_names=["256 px", "512 px", "1024 px"], column_names=words, side=256)


def sources(photographs: Path) -> Tensor:
    """A first-layer filter of networks of three libraries, and the input that it prefers: the signs of its weights.

    The weights are random, so that the only thing to see is whether the picture is that of the right unit.
    """
    import timm
    import torchvision
    import transformers

    torch.manual_seed(0)
    vit = transformers.ViTModel(transformers.ViTConfig(hidden_size=32, num_attention_heads=4, num_hidden_layers=1))
    networks: dict[str, tuple[nn.Module, str]] = {
        "torchvision resnet18": (torchvision.models.resnet18(), "conv1"),
        "timm vit_tiny_patch16_224": (timm.create_model("vit_tiny_patch16_224"), "patch_embed.proj"),
        "transformers ViTModel": (vit, "embeddings.patch_embeddings.projection"),
    }
    rows: list[list[Tensor]] = [[], []]
    for network, layer in networks.values():
        classifier = gp.Classifier(network, input_size=224, mean=(0.5,) * 3, std=(0.5,) * 3, in_place=True)
        target = gp.parse_target(f"{layer}:7", classifier)
        made = gp.synthesize(classifier, target, gp.load_generator("pixel-raw"), scale="image", steps=64).images[0, 0]
        weight = network.get_submodule(layer).weight[7].detach()
        rows[0].append((weight > 0).float())
        rows[1].append(gp.receptive_field(classifier, target).crop(made))
    return mosaic(rows, row_names=["signs of the filter", "synthesised"], column_names=list(networks), side=168)


class Orientations(nn.Module):
    """A small network for grey images of 36 x 64 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 9, stride=2), nn.Conv2d(8, 16, 5, stride=2)
        self.head = nn.Linear(16, len(ANGLES))

    def forward(self, x: Tensor) -> Tensor:
        """[B, 1, 36, 64] -> logits [B, 4]"""
        logits: Tensor = self.head(self.conv2(self.conv1(x).relu()).relu().mean((2, 3)))
        return logits


ANGLES = {"horizontal": 90.0, "vertical": 0.0, "falling": 135.0, "rising": 45.0}
"""Angle of the wave in degrees from the horizontal, by the name of the stripes."""


def gratings(count: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noisy grey gratings [N, 1, 36, 64] of random phase and period, and the numbers of their orientations."""
    labels = torch.randint(len(ANGLES), (count,), generator=source)
    turn = torch.deg2rad(torch.tensor(list(ANGLES.values())))[labels][:, None, None]
    phase, period = torch.rand(2, count, 1, 1, generator=source) * torch.tensor([6.3, 6.0])[:, None, None, None]
    y, x = torch.meshgrid(torch.arange(36.0), torch.arange(64.0), indexing="ij")
    waves = torch.sin((x * turn.cos() + y * turn.sin()) * 6.28 / (6 + period) + phase)
    noise = torch.randn(count, 36, 64, generator=source)
    return (0.5 + 0.15 * waves + 0.1 * noise).clamp(0, 1)[:, None], labels


def grey(photographs: Path) -> Tensor:
    """Most exciting inputs of a grey network of 36 x 64 pixels that was trained on noisy stripes, at fixed contrast."""
    torch.manual_seed(0)
    network, source = Orientations(), torch.Generator().manual_seed(0)
    update = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(300):
        images, labels = gratings(64, source)
        update.zero_grad()
        torch.nn.functional.cross_entropy(network((images - 0.5) / 0.25), labels).backward()
        update.step()
    images, labels = gratings(512, source)
    right = (network((images - 0.5) / 0.25).argmax(1) == labels).float().mean()
    print(f"the network names {right:.1%} of new stripes", flush=True)
    classifier = gp.Classifier(network, input_size=(36, 64), mean=(0.5,), std=(0.25,), labels=list(ANGLES))
    constraints = (("rms_contrast", {"value": 0.15}), ("mean", {"value": 0.5}))
    recipe = gp.load_generator("pixel").recipe.with_options(edits=constraints)
    shown = [images[labels == number][0].expand(3, -1, -1) for number in range(4)]
    rows, captions = [shown], [[""] * 4]
    for name, chosen in (("pixel", recipe), ("fourier", None), ("dgn-lite0", None)):
        made = gp.synthesize(classifier, list(ANGLES), name, recipe=chosen)
        rows.append(list(made.images[:, 0]))
        captions.append([f"{value:.1f}" for value in made.activations[:, 0].tolist()])
    words = ["it was trained on", "pixel, contrast 0.15", "fourier", "dgn-lite0, 256 px"]
    return mosaic(rows, captions=captions, row_names=words, column_names=list(ANGLES), side=160)


def sparse_autoencoder(classifier: gp.Classifier, layer: str, photographs: Path, folder: Path) -> gp.Dictionary:
    """A top-k autoencoder (Gao et al. 2024) of a layer's units at all positions, trained on photographs in a minute."""
    units: list[Tensor] = []
    with torch.no_grad():
        for path in image_paths(photographs)[:600]:
            seen = classifier.activations(as_seen(classifier, read_image(path))[None], [layer])[layer]
            units.append(seen.flatten(2)[0].T)
    data, source = torch.cat(units), torch.Generator().manual_seed(0)
    centre, size = data.mean(0), data.shape[1]
    decoder = nn.functional.normalize(torch.randn(4 * size, size, generator=source), dim=1)
    encoder, bias = decoder.T.clone().requires_grad_(), torch.zeros(4 * size, requires_grad=True)
    decoder.requires_grad_()
    update = torch.optim.Adam([encoder, decoder, bias], 1e-3)
    for _ in range(1500):
        x = data[torch.randint(len(data), (1024,), generator=source)] - centre
        before = x @ encoder + bias
        kept = torch.where(before >= before.topk(8, dim=1).values[:, -1:], before, 0.0).relu()
        update.zero_grad()
        loss = (kept @ nn.functional.normalize(decoder, dim=1) - x).square().sum(1).mean()
        loss.backward()
        update.step()
    left = float(loss.detach()) / float((data - centre).square().sum(1).mean())
    print(f"{len(data)} positions, {left:.1%} of the variance left", flush=True)
    made = gp.Dictionary(
        encoder.detach(), bias.detach(), centre, nn.functional.normalize(decoder.detach(), dim=1), k=8, layer=layer
    )
    made.save(folder)
    return made


def latents(photographs: Path) -> Tensor:
    """Synthesised inputs of latents of an autoencoder that was trained on photographs, two seeds each."""
    classifier, layer = gp.load_classifier("efficientnet-lite0"), "blocks.10"
    with tempfile.TemporaryDirectory() as scratch:
        sparse_autoencoder(classifier, layer, photographs, Path(scratch))
        table = statistics_of_units(classifier, photographs, [f"{layer}/sae:{scratch}"])
        (name,) = table.tables
        print(
            "never active, active at the centre of at least half of the photographs:", table.activity(name), flush=True
        )
        half = table.tables[name][KINDS.index("anywhere"), LEVELS.index(0.5)]
        best = table.tables[name][KINDS.index("anywhere"), -1]
        chosen = torch.where(half > 0, 0.0, best).topk(6).indices.tolist()
        made = gp.synthesize(classifier, [f"{name}:{number}" for number in chosen], "dgn-lite0", seeds=2)
    captions = [[f"{value:.1f}" for value in row] for row in made.activations.T.tolist()]
    print("best photographs:", [f"{best[number]:.1f}" for number in chosen], flush=True)
    rows = [list(made.images[:, seed]) for seed in range(2)]
    words = [f"latent {number}" for number in chosen]
    return mosaic(rows, captions=captions, row_names=["seed 0", "seed 1"], column_names=words, side=128)


GROUPS = {"birds": range(7, 25), "dogs": range(151, 200), "cars": (436, 468, 511, 609, 627, 656, 717, 751, 817, 864)}
"""Classes of ImageNet, by what they have in common."""


def directions(photographs: Path) -> Tensor:
    """Rows of a file of directions: a layer's mean over photographs of some classes, less that over the others.

    `photographs`: a file a class of ImageNet, whose order is that of their names.
    """
    classifier, layer = gp.load_classifier("efficientnet-lite0"), "blocks.13"
    paths = image_paths(photographs)
    chosen = {number for group in GROUPS.values() for number in group} | set(range(5, 1000, 20))
    with torch.no_grad():
        seen = {n: classifier.activations(as_seen(classifier, read_image(paths[n]))[None], [layer]) for n in chosen}
    means = {number: found[layer].mean((0, 2, 3)) for number, found in seen.items()}
    rows = []
    for group in GROUPS.values():
        inside = torch.stack([mean for number, mean in means.items() if number in group]).mean(0)
        rows.append(inside - torch.stack([mean for number, mean in means.items() if number not in group]).mean(0))
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "directions.npy"
        np.save(file, torch.stack(rows).numpy())
        made = gp.synthesize(classifier, f"{layer}/direction:{file}:*@mean", "dgn-lite0", seeds=2)
    images = [list(made.images[:, seed]) for seed in range(2)]
    captions = [[f"{value:.1f}" for value in row] for row in made.activations.T.tolist()]
    return mosaic(images, captions=captions, row_names=["seed 0", "seed 1"], column_names=list(GROUPS), side=168)


PICTURES: dict[str, Callable[[Path], Tensor]] = {
    "sources.jpg": sources,
    "grey.jpg": grey,
    "latents.jpg": latents,
    "directions.jpg": directions,
    "larger.jpg": larger,
}


def main() -> None:
    """Make the pictures that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *PICTURES], help=", ".join(PICTURES))
    parser.add_argument("--photographs", type=Path, help="a folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    options = parser.parse_args()
    for name in options.names or PICTURES:
        began = time.perf_counter()
        picture, path = PICTURES[name](options.photographs), options.out / name
        to_pil(picture).save(path, quality=75)
        seconds = time.perf_counter() - began
        print(f"{name}: {tuple(picture.shape[1:])}, {path.stat().st_size // 1024} KB, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
