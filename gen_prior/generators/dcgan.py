"""DCGAN (Radford et al. 2016, arXiv 1511.06434): latent vector `[D]` -> RGB or grey image, from a user's state dict.

The layout is the published one: a chain of transposed convolutions, each with batch norm and ReLU, the last with tanh.
All sizes are inferred from the shapes of the tensors, whatever their names, and each batch norm is folded into the
convolution before it. The weights have the licence of their owner.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gen_prior.errors import OptionError, WeightsError
from gen_prior.generators.base import Generator
from gen_prior.generators.shared.checks import check_generates, class_index, whole_number
from gen_prior.hub.files import Files
from gen_prior.hub.strict_loading import build_on_meta, load_frozen, pop_float
from gen_prior.hub.tensors import read_tensors
from gen_prior.recipe import Recipe
from gen_prior.util.files import is_file, is_folder

PAPER = "Radford et al. 2016, DCGAN, arXiv 1511.06434"
EPS = 1e-5  # default of PyTorch's batch norm
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
    """A transposed convolution: name of its tensors and of those of its batch norm, if any, and its sizes."""

    name: str
    norm: str | None
    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int


class Layout(NamedTuple):
    """A network inferred from a state dict: layers in order, length of their input, side and channels of the image.

    `embedding`: name and shape of the table of class embeddings, if the state dict has one.
    """

    layers: tuple[Layer, ...]
    latent: int
    side: int
    channels: int
    embedding: tuple[str, tuple[int, int]] | None


def infer(shapes: dict[str, tuple[int, ...]], file: str) -> Layout:
    """The layout of a state dict with these shapes. Raises `WeightsError` if it is not a DCGAN's."""
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
        if "running_mean" in parts:  # the batch norm of the last convolution
            if not layers or layers[-1].norm or set(parts) != set(NORM_PARTS):
                raise WeightsError(f"{file}: the batch norm {name} follows no convolution, or is not complete")
            if any(shape != (layers[-1].outputs,) for shape in parts.values()):
                raise WeightsError(
                    f"{file}: {name} does not have the {layers[-1].outputs} channels of {layers[-1].name}"
                )
            layers[-1] = layers[-1]._replace(norm=name)
        elif len(weight) == 4 and weight[2] == weight[3]:  # a transposed convolution
            stride, padding = _stride_and_padding(weight[2], first=not layers, file=file, name=name)
            if layers and weight[0] != layers[-1].outputs:
                raise WeightsError(
                    f"{file}: {name} takes {weight[0]} channels, {layers[-1].name} gives {layers[-1].outputs}"
                )
            layers.append(Layer(name, None, weight[0], weight[1], weight[2], stride, padding))
            side = (side - 1) * stride - 2 * padding + weight[2]
        elif len(weight) == 2 and set(parts) == {"weight"} and embedding is None:  # class embeddings
            embedding = (name, (weight[0], weight[1]))
        else:
            raise WeightsError(f"{file}: {name} {parts} does not belong to a DCGAN")
    if unknown := sorted(set(shapes) - used):
        raise WeightsError(f"{file}: {', '.join(unknown[:3])} do not belong to a DCGAN")
    _check_chain(layers, side, file)
    return Layout(tuple(layers), layers[0].inputs, side, layers[-1].outputs, embedding)


def _check_chain(layers: list[Layer], side: int, file: str) -> None:
    """Raises `WeightsError` unless the layers make RGB or grey images of a plausible side."""
    if len(layers) < 3 or not 8 <= side <= 1024 or layers[-1].outputs not in (1, 3) or layers[-1].norm:
        widths = [layer.inputs for layer in layers] + [layer.outputs for layer in layers[-1:]]
        found = " -> ".join(map(str, widths))
        raise WeightsError(f"{file} is not a DCGAN generator: transposed convolutions {found or 'none'} to {side} px")


def _stride_and_padding(kernel: int, *, first: bool, file: str, name: str) -> tuple[int, int]:
    if first:
        return 1, 0
    if kernel not in (2, 3, 4):
        raise WeightsError(f"{file}: {name} has a kernel of {kernel}; a DCGAN's are 4 (doubling), 2 (doubling) or 3")
    return {4: (2, 1), 2: (2, 0), 3: (1, 1)}[kernel]


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Sort key with numbers in names by their value, so that layer 10 follows layer 9."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


class DCGAN(nn.Module):
    """Latent `[B, free]` -> image `[B, channels, side, side]` in (-1, 1); `held` `[H]` is appended to every latent."""

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
    """Tensors of `DCGAN` from published ones, which are popped from `tensors`, with batch norms folded in."""
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
    """Load `dcgan:WHERE`: a state dict in a local file or folder, or in `org/name[@revision]` on the Hub.

    `file`: name of the file there, if it is not one of the usual ones. `options`: as of `assemble`.
    """
    path = Path(where).expanduser()
    names: tuple[str, ...]
    if is_file(path):
        files, names = Files.from_folder(path.parent), (path.name,)
    else:
        here = is_folder(path) or where.startswith((".", "/", "~"))
        files = Files.from_folder(path) if here else Files.from_hub(where, revision=revision)
        if file is not None and not isinstance(file, str):
            raise OptionError(f"file must be the name of a file, got {file!r}")
        names = (file,) if file is not None else CANDIDATES
    generator = from_files(files, *names, name=f"dcgan:{where}", **options)
    generator.options |= {"file": file} if file is not None else {}
    return generator


def from_files(files: Files, *names: str, name: str, **options: int | None) -> Generator:
    """The generator in the first of `names` that `files` has; without `names`, of the usual ones."""
    with files.loading():
        path = files.weights(*(names or CANDIDATES))
        return assemble(read_tensors(path), files, name=name, **options)


def _class_table(tensors: dict[str, Tensor], layout: Layout, file: str, label_channels: int | None) -> Tensor:
    """Embeddings of the classes `[N, E]`, popped from `tensors` or one-hot; `[0, 0]` without classes."""
    if label_channels is not None:  # at least one dimension is left for the latent
        whole_number("label_channels", label_channels, least=0, most=layout.latent - 1)
    table = torch.eye(label_channels) if label_channels else torch.zeros(0, 0)
    if layout.embedding is not None:
        table = pop_float(tensors, f"{layout.embedding[0]}.weight", file)
    if table.shape[1] >= layout.latent:
        raise WeightsError(f"{file}: class embeddings of {table.shape[1]} dimensions leave none for the latent")
    return table


def assemble(
    tensors: dict[str, Tensor],
    files: Files,
    *,
    name: str,
    class_label: int | None = None,
    label_channels: int | None = None,
) -> Generator:
    """The generator from a state dict, which is emptied.

    A class-conditional DCGAN takes, after the latent, either the embedding of a class (from a table in the state dict)
    or a one-hot vector of `label_channels`. With `class_label` the class is fixed; without, it is part of the code.

    Raises `WeightsError` for a state dict of another network, `OptionError` for labels that do not fit it.
    """
    layout = infer({key: tuple(value.shape) for key, value in tensors.items()}, files.source)
    table = _class_table(tensors, layout, files.source, label_channels)
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
