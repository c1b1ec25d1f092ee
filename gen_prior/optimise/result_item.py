"""One image of a result with its code and numbers, found by the name of its target and its seed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from gen_prior.errors import OptionError, UnknownNameError
from gen_prior.optimise.resolve import item_names
from gen_prior.optimise.result_data import ResultData
from gen_prior.optimise.result_folder import relative_to_photographs
from gen_prior.util.html import SIDE, cell, picture_tag
from gen_prior.util.image_io import to_pil


class ResultItem:
    """One item of a `Result`: `result["goldfish", 0]`. Of a result on disk, image and code are read when asked for.

    Attributes:
        target: name of the target.
        seed: the seed.
        name: file name, without its ending.
        status: "ok", or what went wrong.
        activation, start_activation: of the image, and of the one that the optimisation started from.
        photograph_ratio, photograph_quantile: activation divided by the best photograph's, and share of photographs
            below it; None where no table says what these are.
        terms: name of each unit of a mix -> its activation; else empty.
    """

    def __init__(self, result: ResultData, t: int, s: int) -> None:
        described = result.targets[t]
        self._result, self._place = result, (t, s)
        self.target, self.seed, self.status = str(described["name"]), result.seeds[s], result.status[t][s]
        self.name = item_names([result.slugs[t]], [self.seed])[0]
        self.activation = float(result.activations[t, s])
        self.start_activation = float(result.start_activations[t, s])
        beside = relative_to_photographs(self.activation, described)
        self.photograph_ratio = beside.get("photograph_ratio")
        self.photograph_quantile = beside.get("photograph_quantile")
        names = [str(term["name"]) for term in described.get("terms", [])]
        self.terms = dict(zip(names, result.terms[t][s], strict=False))

    @property
    def image(self) -> Tensor:
        """`[3, H, W]`, RGB, in [0, 1]."""
        return self._result.tensor_of("image", *self._place)

    @property
    def code(self) -> Tensor:
        """`[*code_shape]`."""
        return self._result.tensor_of("code", *self._place)

    @property
    def history(self) -> Tensor:
        """`[steps]`: the activation seen at each step."""
        return self._result.history[self._place]

    def picture(self) -> Image.Image:
        """The image as a PIL picture, to look at or to save."""
        return to_pil(self.image)

    def __repr__(self) -> str:
        status = "" if self.status == "ok" else f", {self.status}"
        return f"<{self.target}, seed {self.seed}: activation {self.activation:.4g}{status}>"

    def _repr_html_(self) -> str:
        picture = picture_tag(self.image, self.target, 2 * SIDE)
        return f'<div style="display: inline-block">{cell(repr(self)[1:-1], image=picture)}</div>'


def find_target(targets: Sequence[dict[str, Any]], slugs: Sequence[str], wanted: str | int) -> int:
    """The place of a target among `targets`, by its name, its expression, its file name, its class or its number.

    An expression without positions (`blocks.10:42`) is found if a single target is the same but for its position, and
    a number is that of a class, or else the place of the target, from 0. Raises `UnknownNameError` with close matches,
    and `OptionError` for a name that several targets have.
    """
    text = str(wanted)
    for names in ([target["name"] for target in targets], [_expression(target) for target in targets], slugs):
        found = [t for t, name in enumerate(names) if name == text]
        if len(found) > 1:
            raise OptionError(
                f"{len(found)} targets are called {text!r}",
                fix=f"call them by the names of their files: {', '.join(slugs[t] for t in found)}",
            )
        if found:
            return found[0]
    if isinstance(wanted, int):
        classes = [t for t, target in enumerate(targets) if target.get("label") and target.get("unit") == wanted]
        if len(classes) == 1:
            return classes[0]
        if not classes and 0 <= wanted < len(targets):
            return wanted
    alike = [t for t, target in enumerate(targets) if _same_but_for_position(text, target)]
    if len(alike) == 1:
        return alike[0]
    raise UnknownNameError("target of this result", text, dict.fromkeys(target["name"] for target in targets))


def find_seed(seeds: Sequence[int], wanted: int) -> int:
    """The place of a seed among `seeds`. Raises `OptionError`."""
    if wanted not in seeds:
        shown = ", ".join(map(str, seeds[:12])) + (", ..." if len(seeds) > 12 else "")
        raise OptionError(f"this result has no seed {wanted!r}", fix=f"its seeds are {shown}")
    return seeds.index(wanted)


def _expression(target: dict[str, Any]) -> str | None:
    return None if target.get("target") is None else str(target["target"])


def _same_but_for_position(typed: str, target: dict[str, Any]) -> bool:
    """True if an expression as it was typed is that of a target: spaces are free, and positions may be left out."""
    bare = re.sub(r"\s", "", typed)
    for text in filter(None, (target["name"], _expression(target))):
        full = re.sub(r"\s", "", str(text))
        if bare and bare in (full, re.sub(r"@\w+(=\d+)?(,\d+)*", "", full)):
            return True
    return False
