"""DCGAN (Radford et al. 2016, arXiv 1511.06434): latent vector -> RGB image, from nothing but a state dict.

The usual generator is a chain of transposed convolutions, each but the last with a batch norm and a ReLU, and a
tanh at the end. Its sizes are read off the shapes of the tensors, whatever the layers are called, and each batch
norm is folded into the convolution before it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gen_prior.errors import OptionError, WeightsError
from gen_prior.generators.base import Generator
from gen_prior.generators.checks import check_generates, class_index, whole_number
from gen_prior.hub.files import Files
from gen_prior.hub.strict_loading import build_on_meta, load_frozen, pop_float
from gen_prior.hub.tensors import read_tensors
from gen_prior.recipe import Recipe

PAPER = "Radford et al. 2016, DCGAN, arXiv 1511.06434"
EPS = 1e-5
NORM_PARTS = ("weight", "bias", "running_mean", "running_var")
CANDIDATES = (
    "generator.safetensors",
    "model.safetensors",
    "netG.safetensors",
    "pytorch_model.safetensors",
    "generator.pth",
    "generator.pt",
    "netG.pth",
    "model.pth",
    "pytorch_model.bin",
)
RECIPE = Recipe(steps=200, rate=0.05, prior_weight=0.1, sigmas=3.0, domain="code", source=f"{PAPER}; settings of ours")


class Layer(NamedTuple):
    """A transposed convolution: the name of its tensors, and of its batch norm's where there is one."""

    name: str
    norm: str | None
    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int


class Layout(NamedTuple):
    """What the shapes say: the layers in order, length of the first one's input, side and channels of the image.

    `embedding`: name and shape of the table of class embeddings, where the state dict has one.
    """

    layers: tuple[Layer, ...]
    latent: int
    side: int
    channels: int
    embedding: tuple[str, tuple[int, int]] | None


def infer(shapes: dict[str, tuple[int, ...]], file: str) -> Layout:
    """The layout of a state dict with these shapes. Raises `WeightsError` that says what does not fit."""
    shapes = {key: shape for key, shape in shapes.items() if not key.endswith("num_batches_tracked")}
    names = sorted({key.rpartition(".")[0] for key in shapes}, key=_natural)
    used: set[str] = set()
    layers: list[Layer] = []
    embedding: tuple[str, tuple[int, int]] | None = None
    side = 1
    for name in names:
        parts = {part: shapes[f"{name}.{part}"] for part in NORM_PARTS if f"{name}.{part}" in shapes}
        weight = parts.get("weight", ())
        used.update(f"{name}.{part}" for part in parts)
        if len(weight) == 4 and parts.get("bias", weight[1:2]) != weight[1:2]:
            raise WeightsError(f"{file}: {name}.bias has shape {list(parts['bias'])}, not [{weight[1]}]")
        if "running_mean" in parts:
            if not layers or layers[-1].norm or set(parts) != set(NORM_PARTS):
                raise WeightsError(f"{file}: the batch norm {name} follows no convolution, or is not complete")
            if any(shape != (layers[-1].outputs,) for shape in parts.values()):
                raise WeightsError(
                    f"{file}: {name} does not have the {layers[-1].outputs} channels of {layers[-1].name}"
                )
            layers[-1] = layers[-1]._replace(norm=name)
        elif len(weight) == 4 and weight[2] == weight[3]:
            stride, padding = _stride_and_padding(weight[2], first=not layers, file=file, name=name)
            if layers and weight[0] != layers[-1].outputs:
                raise WeightsError(
                    f"{file}: {name} takes {weight[0]} channels, {layers[-1].name} gives {layers[-1].outputs}"
                )
            layers.append(Layer(name, None, weight[0], weight[1], weight[2], stride, padding))
            side = (side - 1) * stride - 2 * padding + weight[2]
        elif len(weight) == 2 and set(parts) == {"weight"} and embedding is None:
            embedding = (name, (weight[0], weight[1]))
        else:
            raise WeightsError(f"{file}: {name} {parts} has no place in a DCGAN")
    if unknown := sorted(set(shapes) - used):
        raise WeightsError(f"{file}: {', '.join(unknown[:3])} have no place in a DCGAN")
    if len(layers) < 3 or not 8 <= side <= 1024 or layers[-1].outputs not in (1, 3) or layers[-1].norm:
        widths = [layer.inputs for layer in layers] + [layer.outputs for layer in layers[-1:]]
        found = " -> ".join(map(str, widths))
        raise WeightsError(f"{file} is not a DCGAN generator: transposed convolutions {found or 'none'} to {side} px")
    return Layout(tuple(layers), layers[0].inputs, side, layers[-1].outputs, embedding)


def _stride_and_padding(kernel: int, *, first: bool, file: str, name: str) -> tuple[int, int]:
    if first:
        return 1, 0
    if kernel not in (2, 3, 4):
        raise WeightsError(f"{file}: {name} has a kernel of {kernel}; a DCGAN's are 4 (doubling), 2 (doubling) or 3")
    return {4: (2, 1), 2: (2, 0), 3: (1, 1)}[kernel]


def _natural(name: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


class DCGAN(nn.Module):
    """Latent `[B, free]` -> image `[B, channels, side, side]` in (-1, 1); `held` is appended to every latent."""

    def __init__(self, layers: tuple[Layer, ...], held: Tensor) -> None:
        super().__init__()
        self.held = nn.Buffer(held)
        self.layers = nn.ModuleList(
            nn.ConvTranspose2d(layer.inputs, layer.outputs, layer.kernel, layer.stride, layer.padding)
            for layer in layers
        )

    def forward(self, latent: Tensor) -> Tensor:
        held = self.held.expand(len(latent), -1)
        x = torch.cat([latent, held], 1)[:, :, None, None]
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        image: Tensor = self.layers[-1](x).tanh()
        return image


def fold(tensors: dict[str, Tensor], layers: tuple[Layer, ...], file: str) -> dict[str, Tensor]:
    """Published tensors, taken out of `tensors` -> `layers.N.weight` and `.bias`, batch norms folded in."""
    folded: dict[str, Tensor] = {}
    for index, layer in enumerate(layers):
        weight = pop_float(tensors, f"{layer.name}.weight", file)
        bias = (
            pop_float(tensors, f"{layer.name}.bias", file)
            if f"{layer.name}.bias" in tensors
            else torch.zeros(layer.outputs)
        )
        if layer.norm is not None:
            gain, offset, mean, variance = (pop_float(tensors, f"{layer.norm}.{part}", file) for part in NORM_PARTS)
            gain = gain * (variance + EPS).rsqrt()
            weight, bias = weight * gain[:, None, None], (bias - mean) * gain + offset
        folded[f"layers.{index}.weight"], folded[f"layers.{index}.bias"] = weight, bias
    return folded


def load(where: str, *, revision: str | None = None, file: str | None = None, **options: int | None) -> Generator:
    """`dcgan:WHERE`: a state dict in a file or folder of this machine, or in `org/name[@revision]` on the Hub.

    `file`: its name there, where it is not one of the usual ones. Options as of `assemble`.
    """
    path = Path(where).expanduser()
    names: tuple[str, ...]
    if path.is_file():
        files, names = Files.from_folder(path.parent), (path.name,)
    else:
        here = path.is_dir() or where.startswith((".", "/", "~"))
        files = Files.from_folder(path) if here else Files.from_hub(where, revision=revision)
        if file is not None and not isinstance(file, str):
            raise OptionError(f"file must be the name of a file, got {file!r}")
        names = (file,) if file is not None else CANDIDATES
    generator = from_files(files, *names, name=f"dcgan:{where}", **options)
    generator.options |= {"file": file} if file is not None else {}
    return generator


def from_files(files: Files, *names: str, name: str, **options: int | None) -> Generator:
    """The generator in the first of `names` (the usual ones without) that `files` has."""
    with files.loading():
        path = files.weights(*(names or CANDIDATES))
        return assemble(read_tensors(path), files, name=name, **options)


def assemble(
    tensors: dict[str, Tensor],
    files: Files,
    *,
    name: str,
    class_label: int | None = None,
    label_channels: int | None = None,
) -> Generator:
    """The generator from a state dict.

    A class-conditional DCGAN takes, after the latent, either the embedding of a class (its table is in the state
    dict) or `label_channels` one-hot numbers. With `class_label` the class is held; without, it is part of the code.

    Raises `WeightsError` where this is no DCGAN, `OptionError` where the labels do not fit it.
    """
    layout = infer({key: tuple(value.shape) for key, value in tensors.items()}, files.source)
    if label_channels is not None:  # something has to be left for the latent
        whole_number("label_channels", label_channels, least=0, most=layout.latent - 1)
    table = torch.eye(label_channels) if label_channels else torch.zeros(0, 0)
    if layout.embedding is not None:
        table = pop_float(tensors, f"{layout.embedding[0]}.weight", files.source)
    if table.shape[1] >= layout.latent:
        raise WeightsError(f"{files.source}: class embeddings of {table.shape[1]} numbers leave nothing for the latent")
    if class_label is not None:
        if not len(table):
            raise OptionError(f"{name} has no classes", fix="pass label_channels=N, or leave class_label out")
        class_label = class_index(class_label, len(table))
    held = table[class_label] if class_label is not None else torch.zeros(0)
    free = layout.latent - len(held)
    network = build_on_meta(lambda: DCGAN(layout.layers, torch.zeros(len(held))), files.source)
    load_frozen(network, fold(tensors, layout.layers, files.source) | {"held": held}, files.source, "this DCGAN")
    mean, std = torch.zeros(free), torch.ones(free)
    if class_label is None and len(table):
        mean[-table.shape[1] :], std[-table.shape[1] :] = table.mean(0), table.std(0, unbiased=False).clamp_min(1e-3)
    generator = Generator(
        network,
        (free,),
        channels="L" if layout.channels == 1 else "RGB",
        code_mean=mean,
        code_std=std,
        name=name,
        recipe=RECIPE,
        provenance=files.provenance(paper=PAPER),
        options={"class_label": class_label, "label_channels": label_channels},
    )
    return check_generates(generator, files.source, size=(layout.side, layout.side))


__all__ = ["DCGAN", "RECIPE", "assemble", "fold", "from_files", "infer", "load"]
