"""Deep generator networks trained by `gen-prior train-prior`: the embedded prior (Apache-2.0) and exported folders.

The code is a vector (see `network.WhitenedCodes`); the method is that of Nguyen et al. 2016 (arXiv 1605.09304) with a
decoder after Dosovitskiy & Brox 2016 (arXiv 1602.02644). One safetensors file holds the network and, in its metadata,
the configuration, the class keys, every training setting and the hashes of what it was made from.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

from gen_prior.errors import GenPriorError, WeightsError
from gen_prior.generators.base import ClassInit, Generator, Provenance
from gen_prior.generators.dgn.config import NetworkConfig
from gen_prior.generators.dgn.flow import exemplar_index
from gen_prior.generators.dgn.larger import LargerDecoder, sized
from gen_prior.generators.dgn.network import WhitenedCodes, WhitenedDecoder
from gen_prior.generators.shared.checks import check_generates
from gen_prior.hub.strict_loading import build_on_meta, load_strictly
from gen_prior.hub.tensors import hashed, read_file_metadata, read_tensors, save_safetensors
from gen_prior.recipe import Recipe, Specs

FORMAT = "gen-prior/dgn-1"
FILE = "generator.safetensors"
EMBEDDED = {"dgn-lite0": "dgn-lite0.safetensors", "dgn-lite0-gaussian": "dgn-lite0.safetensors"}
EXEMPLAR_METADATA = ("layouts", "layouts_data")
"""Metadata keys of the exemplars; `FLOW_METADATA`: of the flow with them."""
FLOW_METADATA = ("flow", "flow_data", "classes", *EXEMPLAR_METADATA)
PAPER = "Nguyen et al. 2016, arXiv 1605.09304; Dosovitskiy & Brox 2016, arXiv 1602.02644"
RECIPE = Recipe(
    rate=0.2,
    edits=(("norm_sphere", {"radius": 1.3}),),
    transforms=(("affine", {"degrees": 8.0, "scale": (0.9, 1.2), "shift": 0.06}),),
    domain="code",
    source="benchmarks/recipe_search.py",
)
FLOW_RECIPE = replace(
    RECIPE,
    rate=0.4,
    edits=(("norm_sphere", {"radius": 1.5}),),
    transforms=(*RECIPE.transforms, ("blur", {"deviation": 5.0})),
    steps=64,
    candidates=8,
    trials=8,
)
EXEMPLAR_RECIPE = replace(FLOW_RECIPE, rate=0.2, steps=128, candidates=1, trials=1)
"""An exemplar gives the image its composition: no restarts are needed, and large steps would lose it."""
UNIT_RADIUS = 1.3
UNIT_RECIPE = replace(
    RECIPE,
    transforms=(("affine", {"degrees": 4.0, "scale": (0.95, 1.05), "shift": 0.02}),),
    steps=96,
    candidates=32,
    unit_start=True,
)
"""For hidden units: without the flow, from the best of some random codes, so that units differ in composition."""
EXEMPLAR_SHARE = 0.7
"""Share of an exemplar in the initial code of a seed beyond the number of exemplars; the rest is noise."""
DETAIL_SPHERE = {"radius": 1.0, "inside": True}
"""Options of the edit `norm_sphere` for details: at most as large as photographs'."""


def load_embedded(name: str = "dgn-lite0", *, flow: bool = True, image_size: int | None = None) -> Generator:
    """Load the prior that ships with the package: RGB of 256 px, or 512 or 1024, from features, noise and details.

    `flow`: with its flow; without, the code is a whitened code and details. `image_size`: side in pixels, 256 if None;
    see `larger`. Raises `OptionError` for another side.
    """
    made = _embedded(name, flow=flow, image_size=image_size)
    made.options |= {} if flow else {"flow": False}
    return made


def load_gaussian(name: str = "dgn-lite0-gaussian", *, image_size: int | None = None) -> Generator:
    """Load the embedded prior without its flow: whitened codes, standard normal over photographs, and details.

    `image_size`: as of `load_embedded`.
    """
    return _embedded(name, flow=False, image_size=image_size)


def _embedded(name: str, *, flow: bool, image_size: int | None) -> Generator:
    path = resources.files("gen_prior.weights").joinpath(EMBEDDED[name])
    if not path.is_file():
        raise WeightsError(
            f"the embedded weights {EMBEDDED[name]} are missing", fix="pip install --force-reinstall gen-prior"
        )
    with resources.as_file(path) as file:
        return from_file(file, name=name, origin=EMBEDDED[name], source="embedded", flow=flow, image_size=image_size)


def from_file(
    path: Path, *, name: str, origin: str, source: str, flow: bool = True, image_size: int | None = None
) -> Generator:
    """The generator in the safetensors file `path`, called `origin` in messages.

    `flow`: keep the flow of a file that has one. `image_size`: side of the images, the network's own if None. Raises
    `WeightsError` for a file that is damaged, of another format, or whose tensors do not match its configuration, and
    `OptionError` for a side that the network cannot draw.
    """
    path = hashed(path)
    network, metadata = read_network(path, origin)
    if not flow:
        network.flow = None
    default = recipe_for(network)
    try:
        recipe = Recipe.from_dict(json.loads(metadata["recipe"])) if "recipe" in metadata else default
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, GenPriorError) as error:
        raise WeightsError(f"{origin} holds an invalid recipe: {error}") from error
    drawn, init = sized(network, image_size, name), _class_init(network, metadata, origin)
    larger = isinstance(drawn, LargerDecoder)
    spheres = _further_spheres(network, drawn)
    generator = Generator(
        drawn,
        (drawn.dims,),
        output_range=(0, 1),
        code_std=drawn.std if network.details else 1.0,
        name=name,
        recipe=replace(recipe, edits=(*recipe.edits, *spheres)),
        unit_recipe=replace(unit_recipe_for(network), edits=(*unit_recipe_for(network).edits, *spheres)),
        class_init=drawn.class_init(init) if isinstance(drawn, LargerDecoder) else init,
        unit_init=drawn.init_without_flow if network.flow is not None else None,
        provenance=Provenance(
            source=source,
            revision=metadata.get("version"),
            sha256={origin.rpartition("/")[2]: str(path.sha256)},
            licence=metadata.get("licence"),
            paper=PAPER,
        ),
        options={"image_size": image_size} if larger else {},
    )
    side = image_size if larger and image_size else network.config.image_side
    return check_generates(generator, origin, size=(side, side))


def write_without_flow(path: Path, out: Path) -> None:
    """Copy the safetensors file `path` to `out` without its flow and exemplars."""
    tensors = {key: value for key, value in read_tensors(path).items() if not key.startswith("flow.")}
    config = {key: value for key, value in json.loads(read_file_metadata(path)["config"]).items() if key != "flow"}
    metadata = {key: value for key, value in read_file_metadata(path).items() if key not in FLOW_METADATA}
    save_safetensors(out, tensors, metadata | {"config": json.dumps(config)})


def recipe_for(network: WhitenedCodes) -> Recipe:
    """Default recipe for the kind of code that `network` takes."""
    recipe = RECIPE
    if network.flow is not None:
        recipe = EXEMPLAR_RECIPE if network.flow.config.exemplars else FLOW_RECIPE
    if network.details is None:
        return recipe
    ((_, options),) = recipe.edits
    return replace(recipe, edits=_spheres(network, 0, options["radius"]))


def unit_recipe_for(network: WhitenedCodes) -> Recipe:
    """Default recipe for hidden units: codes without the flow (`CodeFlow.forward`), on the sphere of their own norm."""
    first = network.flow.config.features if network.flow is not None else 0
    return replace(UNIT_RECIPE, edits=_spheres(network, first, UNIT_RADIUS))


def _spheres(network: WhitenedCodes, first: int, radius: float) -> Specs:
    """Edits that keep the coarse code from dimension `first` on one norm sphere, and details within another."""
    end = network.coarse_dims
    coarse = ("norm_sphere", {"radius": radius, "units": (first, end)})
    if network.details is None:
        return (coarse,)
    return coarse, ("norm_sphere", {**DETAIL_SPHERE, "units": (end, network.dims)})


def _further_spheres(network: WhitenedDecoder, drawn: WhitenedDecoder | LargerDecoder) -> Specs:
    """The edit that keeps the details of larger images at most as large as photographs', if there are any."""
    if drawn is network:
        return ()
    return (("norm_sphere", {**DETAIL_SPHERE, "units": (network.dims, drawn.dims)}),)


def _class_init(network: WhitenedDecoder, metadata: Mapping[str, str], origin: str) -> ClassInit | None:
    """Initial codes of a class, by the class keys in the metadata; None without a flow.

    The first seeds take the exemplars one by one; later seeds take one at random, mixed with noise.
    """
    if network.flow is None:
        return None
    try:
        keys = [str(key) for key in json.loads(metadata.get("classes", "[]"))]
    except (ValueError, TypeError, RecursionError) as error:
        raise WeightsError(f"{origin} is damaged: {error}") from error
    classes = network.flow.classes.float().cpu()
    exemplars = network.flow.exemplars.cpu() if network.flow.config.exemplars else None
    if len(keys) not in (0, len(classes)):
        raise WeightsError(f"{origin} names {len(keys)} classes, but its flow knows {len(classes)}")
    times = Counter(keys)
    numbers = {key: number for number, key in enumerate(keys) if times[key] == 1}  # a name of two classes is ambiguous

    def class_init(wanted: str, noise: Tensor, seed: int) -> Tensor | None:
        if (number := numbers.get(wanted)) is None:
            return None
        if exemplars is None:
            return network.init_from_class(classes[number], noise)
        if seed < exemplars.shape[1]:
            return network.init_from_class(classes[number], noise, exemplars[number, seed])
        index = exemplar_index(noise[classes.shape[1]], exemplars.shape[1])
        return network.init_from_class(classes[number], noise, exemplars[number, index], EXEMPLAR_SHARE)

    return class_init


def read_network(path: Path, origin: str) -> tuple[WhitenedDecoder, dict[str, str]]:
    """The network in the safetensors file `path`, and the file's metadata.

    Raises `WeightsError` as `from_file` does, with the name `origin`, or `path` for truncated or non-finite tensors.
    """
    metadata = read_file_metadata(path)
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{origin} is not a generator of format {FORMAT} (found {metadata.get('format')!r})")
    config = NetworkConfig.from_metadata(metadata, origin)
    network = build_on_meta(lambda: WhitenedDecoder.from_config(config), origin)
    load_strictly(network, read_tensors(path), origin)  # without a copy: loading needs no other memory
    assert isinstance(network, WhitenedDecoder)
    flow = network.flow
    if flow is not None and flow.config.exemplars and flow.layouts.dtype != torch.int8:
        raise WeightsError(f"{origin}: flow.layouts is of type {flow.layouts.dtype}, not torch.int8")
    return network, metadata


__all__ = ["FILE", "FORMAT", "from_file", "load_embedded", "read_network"]
