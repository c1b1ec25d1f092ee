"""Deep generator networks trained here (`gen-prior train-prior`): the embedded prior and exported folders.

One file holds everything: safetensors with the decoder, the code's mean and principal directions, and, in
its metadata, the configuration, the training settings and the hashes of what it was made from.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gen_prior.errors import GenPriorError, WeightsError
from gen_prior.generators.base import Aim, Generator, Provenance
from gen_prior.generators.checks import proven
from gen_prior.generators.dgn.blocks import CODE_SIDE
from gen_prior.generators.dgn.fine_code import SIDE, Details
from gen_prior.generators.dgn.flow import CodeFlow, FlowConfig, layout_place
from gen_prior.generators.dgn.network import SIZES, Decoder, Refiner, WhiteCodes, WhitenedDecoder, widths
from gen_prior.hub.strict_loading import build_on_meta, load_strictly
from gen_prior.hub.tensors import file_sha256, read_file_metadata, read_tensors, save_safetensors
from gen_prior.recipe import Recipe

FORMAT = "gen-prior/dgn-1"
FILE = "generator.safetensors"
EMBEDDED = {"dgn-lite0": "dgn-lite0.safetensors", "dgn-lite0-gaussian": "dgn-lite0.safetensors"}
LAYOUT_METADATA = ("layouts", "layouts_data")
FLOW_METADATA = ("flow", "flow_data", "classes", *LAYOUT_METADATA)
MAX_NUMBERS = 2**28
MAX_CHANNELS = 4096
FLOW = tuple((name, float if name == "guidance" else int) for name in FlowConfig._fields)
PAPER = "Nguyen et al. 2016, arXiv 1605.09304; Dosovitskiy & Brox 2016, arXiv 1602.02644"
RECIPE = Recipe(
    rate=0.2,
    edits=(("shell", {"radius": 1.3}),),
    transforms=(("affine", {"degrees": 8.0, "scale": (0.9, 1.2), "shift": 0.06}),),
    domain="code",
    source="benchmarks/recipe_search.py",
)
FLOW_RECIPE = replace(
    RECIPE,
    rate=0.4,
    edits=(("shell", {"radius": 1.5}),),
    transforms=(*RECIPE.transforms, ("blur", {"deviation": 5.0})),
    steps=64,
    candidates=8,
    trials=8,
)
LAYOUT_RECIPE = replace(FLOW_RECIPE, rate=0.2, steps=128, candidates=1, trials=1)
"""A start with a form needs no trials, and large steps would lose it."""
LAYOUT_SHARE = 0.7
"""Of a layout in starts of the seeds after those that took it as it is: the rest is noise, so no two are alike."""
DETAIL_SHELL = {"radius": 1.0, "inside": True}
"""What details may be, beside what the recipe says of the coarse code."""


def load_embedded(name: str = "dgn-lite0", *, flow: bool = True) -> Generator:
    """The prior that ships with the package: 256 px RGB from wanted features and noise."""
    path = resources.files("gen_prior.weights").joinpath(EMBEDDED[name])
    if not path.is_file():
        raise WeightsError(
            f"the embedded weights {EMBEDDED[name]} are missing", fix="pip install --force-reinstall gen-prior"
        )
    with resources.as_file(path) as file:
        return from_file(file, name=name, origin=EMBEDDED[name], source="embedded", flow=flow)


def load_gaussian(name: str = "dgn-lite0-gaussian") -> Generator:
    """The same prior without its flow: the code is the decoder's, a standard normal over photographs."""
    return load_embedded(name, flow=False)


def load_folder(folder: str | Path, **options: Any) -> Generator:
    """The generator that `gen-prior train-prior` or `gen-prior export` left in `folder`."""
    path = Path(folder) / FILE
    if not path.is_file():
        raise WeightsError(f"no {FILE} in {folder}", fix="pass the folder that gen-prior train-prior or export wrote")
    return from_file(path, name=f"local-dir:{folder}", origin=str(path), source=f"local-dir:{folder}", **options)


def from_file(path: Path, *, name: str, origin: str, source: str, flow: bool = True) -> Generator:
    """The generator in a safetensors file, called `origin` in messages; every tensor checked against its configuration.

    `flow`: with the flow that the file may hold. Raises `WeightsError` where the file is damaged, of another format, or
    does not match its configuration.
    """
    network, config, metadata = read_network(path, origin)
    if not flow:
        network.flow = None
    default = recipe_for(network)
    try:
        recipe = Recipe.from_dict(json.loads(metadata["recipe"])) if "recipe" in metadata else default
    except (ValueError, TypeError, KeyError, AttributeError, GenPriorError) as error:
        raise WeightsError(f"{origin} states a recipe that is none: {error}") from error
    generator = Generator(
        network,
        (network.numbers,),
        output_range=(0, 1),
        code_std=network.deviations if network.details else 1.0,
        name=name,
        recipe=recipe,
        aim=_aim(network, metadata, origin),
        provenance=Provenance(
            source=source,
            revision=metadata.get("version"),
            sha256={origin.rpartition("/")[2]: file_sha256(path)},
            licence=metadata.get("licence"),
            paper=PAPER,
        ),
    )
    side = config.decoded * (2 if config.refiner else 1) * (2 if config.grain else 1)
    return proven(generator, origin, size=(side, side))


def write_without_flow(path: Path, out: Path) -> None:
    """Copy the safetensors file `path` to `out` without its flow."""
    tensors = {key: value for key, value in read_tensors(path).items() if not key.startswith("flow.")}
    config = {key: value for key, value in json.loads(read_file_metadata(path)["config"]).items() if key != "flow"}
    metadata = {key: value for key, value in read_file_metadata(path).items() if key not in FLOW_METADATA}
    save_safetensors(out, tensors, metadata | {"config": json.dumps(config)})


def recipe_for(network: WhiteCodes) -> Recipe:
    """What suits codes of that kind."""
    recipe = RECIPE
    if network.flow is not None:
        recipe = LAYOUT_RECIPE if network.flow.config.layouts else FLOW_RECIPE
    if network.details is None:
        return recipe
    ((name, options),) = recipe.edits
    end = network.coarse_numbers
    edits = ((name, {**options, "units": (0, end)}), (name, {**DETAIL_SHELL, "units": (end, network.numbers)}))
    return replace(recipe, edits=edits)


def _aim(network: WhitenedDecoder, metadata: Mapping[str, str], origin: str) -> Aim | None:
    """Where the codes of a class begin, by the keys that the file lists for its flow's classes."""
    if network.flow is None:
        return None
    try:
        keys = [str(key) for key in json.loads(metadata.get("classes", "[]"))]
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{origin} is damaged: {error}") from error
    classes = network.flow.classes.float().cpu()
    layouts = network.flow.layouts.cpu() if network.flow.config.layouts else None
    if len(keys) not in (0, len(classes)):
        raise WeightsError(f"{origin} names {len(keys)} classes, but its flow knows {len(classes)}")
    times = Counter(keys)
    numbers = {key: number for number, key in enumerate(keys) if times[key] == 1}  # a name of two classes says neither

    def aim(wanted: str, noise: Tensor, seed: int) -> Tensor | None:
        if (number := numbers.get(wanted)) is None:
            return None
        if layouts is None:
            return network.begun(classes[number], noise)
        if seed < layouts.shape[1]:
            return network.begun(classes[number], noise, layouts[number, seed])
        place = layout_place(noise[classes.shape[1]], layouts.shape[1])
        return network.begun(classes[number], noise, layouts[number, place], LAYOUT_SHARE)

    return aim


class Config(NamedTuple):
    """What a file says of its network; `size` is the decoder's, a refiner (of so many channels) doubles it.

    `details` (0: none) double it too, and so does `grain` (its strength; 0: none). `coring` limits the fine contrast; 0
    leaves it as it is.
    """

    size: int
    code_channels: int
    width: float
    directions: int
    refiner: int
    flow: FlowConfig | None = None
    coring: float = 0.0
    details: int = 0
    detail_width: int = 0
    grain: float = 0.0

    @property
    def decoded(self) -> int:
        """Side of the images that the decoder draws."""
        return self.size * (2 if self.details else 1)


def read_network(path: Path, origin: str) -> tuple[WhitenedDecoder, Config, dict[str, str]]:
    """The network in a safetensors file, what the file says of it, and all its metadata.

    Raises `WeightsError` as `from_file` does; where the file is cut short or not finite, it names `path`.
    """
    metadata = read_file_metadata(path)
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{origin} is not a generator of format {FORMAT} (found {metadata.get('format')!r})")
    config = _read_config(metadata, origin)
    size, channels, width, directions, refiner, flow, coring, details, detail_width, grain = config

    def build() -> WhitenedDecoder:
        return WhitenedDecoder(
            Decoder(channels, size, width),
            torch.empty(channels, CODE_SIDE, CODE_SIDE),
            torch.empty(channels * CODE_SIDE**2, directions),
            Refiner(refiner) if refiner else None,
            CodeFlow(directions, flow) if flow else None,
            coring,
            Details(channels, details, detail_width) if details else None,
            grain,
        )

    network = build_on_meta(build, origin)
    load_strictly(network, read_tensors(path), origin)  # takes them over: beside them, loading needs no memory
    assert isinstance(network, WhitenedDecoder)
    if flow and flow.layouts and network.flow is not None and network.flow.layouts.dtype != torch.int8:
        raise WeightsError(f"{origin}: flow.layouts is of type {network.flow.layouts.dtype}, not torch.int8")
    return network, config, metadata


def _read_config(metadata: Mapping[str, str], origin: str) -> Config:
    try:
        found = json.loads(metadata["config"])
        size, channels, width = int(found["size"]), int(found["code_channels"]), float(found["width"])
        flow = _flow(found["flow"]) if found.get("flow") else None
        refiner, coring = int(found.get("refiner", 0)), float(found.get("coring", 0))
        details, detail_width = int(found.get("details", 0)), int(found.get("detail_width", 0))
        grain = float(found.get("grain", 0))
        config = Config(
            size, channels, width, int(found["directions"]), refiner, flow, coring, details, detail_width, grain
        )
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise WeightsError(f"{origin} is damaged: {str(error).splitlines()[0]}") from error
    if size not in SIZES or min(channels, config.directions) < 1 or config.refiner < 0 or not 0 < width < math.inf:
        raise WeightsError(f"{origin} asks for an impossible network: {found}")
    for name, value in (("coring", coring), ("grain", grain)):
        if not 0 <= value < math.inf:
            raise WeightsError(f"{origin} asks for an impossible {name}: {value}")
    if not 0 <= details <= channels * SIDE**2 or (detail_width < 1) != (details == 0):
        raise WeightsError(f"{origin} asks for impossible details: {found}")
    if flow is not None and (min(flow[:5]) < 1 or flow.layouts < 0 or not math.isfinite(flow.guidance)):
        raise WeightsError(f"{origin} asks for an impossible flow: {found}")
    directions = max(CODE_SIDE**2 * config.directions, SIDE**2 * details)
    tables = flow.classes * max(flow.features, flow.layouts * config.directions) if flow else 0
    numbers = max(channels * directions, tables)
    several = (*widths(size, width), *(flow._replace(classes=1) if flow else ()))
    if numbers > MAX_NUMBERS or max(channels, config.refiner, detail_width, *several) > MAX_CHANNELS:
        raise WeightsError(f"{origin} asks for too large a network: {found}")
    return config


def _flow(found: Mapping[str, Any]) -> FlowConfig:
    values = {**FlowConfig._field_defaults, **found}
    return FlowConfig._make(kind(values[name]) for name, kind in FLOW)


__all__ = ["FILE", "FORMAT", "from_file", "load_embedded", "load_folder", "read_network"]
