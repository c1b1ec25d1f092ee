"""`Feature`: a function of a layer's units at one position that a target reads instead of a unit."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import TargetError
from gen_prior.objectives.dictionary import Dictionary
from gen_prior.objectives.dictionary_formats import load_dictionary, load_directions

log = logging.getLogger(__name__)

DICTIONARIES: dict[str, Callable[[str], Dictionary]] = {"sae": load_dictionary, "direction": load_directions}
"""KIND of `LAYER/KIND:SOURCE:NUMBER` -> how its source is loaded."""
FEATURE = re.compile(rf"(.+?)/({'|'.join(DICTIONARIES)}):(.+)")


@dataclass(frozen=True)
class Feature:
    """A function of units, `[..., units]` in float32 -> `[...]`. Features that are written alike are equal.

    Attributes:
        written: how a target names it, without a position: `blocks.5/sae:FOLDER:12`.
        name: a short name for reports and files: `blocks.5/sae:12`.
        read: the value that results report.
        score: what is maximised: a function that rises with `read`, with a gradient where that has none.
    """

    written: str
    name: str = field(compare=False)
    read: Callable[[Tensor], Tensor] = field(compare=False, repr=False)
    score: Callable[[Tensor], Tensor] = field(compare=False, repr=False)
    origin: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """Source that it was loaded from, with hashes, for results."""


def split_feature(text: str) -> tuple[str, str, str]:
    """`LAYER/KIND:REST` -> LAYER, KIND, REST; for text without a known KIND, the text and "" twice."""
    match = FEATURE.fullmatch(text)
    return (match[1].strip(), match[2], match[3].strip()) if match else (text, "", "")


def dictionary_of(text: str) -> tuple[str, Dictionary | None]:
    """`LAYER/KIND:SOURCE` -> LAYER and the dictionary at SOURCE, loaded; None for a layer alone."""
    layer, kind, source = split_feature(text)
    return layer, DICTIONARIES[kind](source) if kind else None


def latent_of(kind: str, source: str, number: int, layer: str, classifier: Classifier) -> Feature:
    """The feature `LAYER/KIND:SOURCE:NUMBER`.

    Raises `TargetError` for a number out of range, or a dictionary of another width or of another layer.
    """
    width = classifier.layout(layer).units(layer)
    dictionary = DICTIONARIES[kind](source)
    written = f"{layer}/{kind}:{source}:{number}"
    if number >= len(dictionary):
        raise TargetError(f"{written!r}: {source} has {len(dictionary)} rows or latents, 0 to {len(dictionary) - 1}")
    if dictionary.width != width:
        raise TargetError(f"{written!r}: layer {layer!r} has {width} units, but {source} takes {dictionary.width}")
    if dictionary.layer != layer and dictionary.layer in classifier.layers():
        raise TargetError(
            f"{written!r}: {source} was trained on layer {dictionary.layer!r}", fix=f"read it at {dictionary.layer}"
        )
    theirs, ours = re.search(r"\d+", dictionary.layer), re.search(r"\d+", layer)
    if dictionary.layer and (theirs and theirs[0]) != (ours and ours[0]):
        log.warning("%s says that it was trained on %s; it is read at %s", source, dictionary.layer, layer)
    origin = asdict(dictionary.provenance)
    return Feature(written, f"{layer}/{kind}:{number}", dictionary.latent(number), dictionary.drive(number), origin)
