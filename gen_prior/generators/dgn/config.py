"""Sizes of a prior's network, as the metadata `config` of its file states them (JSON)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, TypeVar

from gen_prior.errors import WeightsError
from gen_prior.generators.dgn.blocks import CODE_SIDE
from gen_prior.generators.dgn.fine_code import FINE_SIDE

SIZES = (64, 128, 256)
MAX_ELEMENTS = 2**28
"""Largest tensor that a file may ask for, in elements."""
MAX_COUNT = 4096
"""Most channels, layers or sampling steps that a file may ask for, and largest guidance."""

T = TypeVar("T")


def widths(size: int, width: float = 1.0) -> tuple[int, ...]:
    """Channels of each resolution from 4x4 up to half the image's side (64 px: 256, 160, 96, 64)."""
    plan = (256, 160, 96, 64, 48, 32)
    levels = int(math.log2(size // CODE_SIDE))
    return tuple(max(16, round(channels * width / 8) * 8) for channels in plan[:levels])


@dataclass(frozen=True)
class FlowConfig:
    """Sizes and sampling settings of a `CodeFlow`."""

    features: int
    """Dimensions of a code that are classifier features; the others are noise, one for each principal direction."""
    width: int
    depth: int
    classes: int
    steps: int
    """Steps of the integration from noise to a code."""
    guidance: float
    """Scale of classifier-free guidance: factor on the change that the features make to the velocity."""
    exemplars: int = field(default=0, metadata={"key": "layouts"})
    """Codes of photographs kept for each class, to start from."""

    def to_dict(self) -> dict[str, Any]:
        """Values by their names in files, for JSON."""
        return {_key(part): getattr(self, part.name) for part in fields(self)}


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of a `WhitenedDecoder`; 0 or None for a part that it lacks."""

    size: int
    """Side in pixels of the image that the decoder makes of a coarse code."""
    code_channels: int
    width: float
    """Factor on the decoder's channels."""
    directions: int
    """Principal directions of photographs' codes: dimensions of a whitened coarse code."""
    refiner: int = 0
    """Channels of the refiner, which doubles the side."""
    flow: FlowConfig | None = None
    coring: float = 0.0
    """Limit of `Coring`."""
    details: int = 0
    """Dimensions of the fine code, which doubles the side."""
    detail_width: int = 0
    """Channels of the network that predicts the fine code from the coarse one."""
    grain: float = 0.0
    """Strength of `Grain`, which doubles the side."""

    @property
    def decoder_side(self) -> int:
        """Side in pixels of the images that the decoder makes."""
        return self.size * (2 if self.details else 1)

    @property
    def image_side(self) -> int:
        """Side in pixels of the images that the whole network makes."""
        return self.decoder_side * (2 if self.refiner else 1) * (2 if self.grain else 1)

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON; parts that the network lacks are left out."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        values["flow"] = self.flow and self.flow.to_dict()
        return {part.name: values[part.name] for part in fields(self) if values[part.name] != part.default}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], origin: str) -> NetworkConfig:
        """The configuration in the metadata of the file `origin`. Raises `WeightsError` for one without sense."""
        try:
            values = json.loads(metadata["config"])
            flow = _parse(FlowConfig, values["flow"]) if values.get("flow") else None
            config = replace(_parse(cls, values), flow=flow)
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise WeightsError(f"{origin} is damaged: {str(error).splitlines()[0]}") from error
        config._check(origin, values)
        return config

    def _check(self, origin: str, values: Any) -> None:
        flow, fine = self.flow, self.code_channels * FINE_SIDE**2
        impossible = {
            "network": self.size not in SIZES
            or min(self.code_channels, self.directions) < 1
            or self.refiner < 0
            or not 0 < self.width < math.inf,
            "coring": not 0 <= self.coring < math.inf,
            "grain": not 0 <= self.grain < math.inf,
            "fine code": not 0 <= self.details <= fine or (self.detail_width < 1) != (self.details == 0),
            "flow": flow is not None
            and (
                min(flow.features, flow.width, flow.depth, flow.classes, flow.steps, flow.exemplars + 1) < 1
                or not math.isfinite(flow.guidance)
            ),
        }
        for part, refused in impossible.items():
            if refused:
                raise WeightsError(f"{origin} asks for an impossible {part}: {values}")
        if not self._is_affordable():
            raise WeightsError(f"{origin} asks for too large a network: {values}")

    def _is_affordable(self) -> bool:
        """Return whether no tensor and no layer is larger than this library loads."""
        flow = self.flow
        bases = self.code_channels * max(CODE_SIDE**2 * self.directions, FINE_SIDE**2 * self.details)
        tables = flow.classes * max(flow.features, flow.exemplars * self.directions) if flow else 0
        layers: list[float] = [self.code_channels, self.refiner, self.detail_width, *widths(self.size, self.width)]
        if flow:
            layers += [flow.features, flow.width, flow.depth, flow.steps, flow.exemplars, flow.guidance]
        return max(bases, tables) <= MAX_ELEMENTS and max(layers) <= MAX_COUNT


def _key(part: Any) -> str:
    """Name of a field in files."""
    return str(part.metadata.get("key", part.name))


def _parse(kind: type[T], values: Mapping[str, Any]) -> T:
    """A config of class `kind` from the numbers in `values`, converted to the fields' types."""
    found = {}
    for part in fields(kind):  # type: ignore[arg-type]
        convert = {"int": int, "float": float}.get(str(part.type))
        if convert is not None and (_key(part) in values or part.default is MISSING):
            found[part.name] = convert(values[_key(part)])
    return kind(**found)


__all__ = ["MAX_COUNT", "MAX_ELEMENTS", "SIZES", "FlowConfig", "NetworkConfig", "widths"]
