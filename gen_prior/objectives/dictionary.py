"""`Dictionary`: the latents of a sparse autoencoder, or directions, as functions of a layer's units at one position."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gen_prior.errors import OptionError
from gen_prior.hub.provenance import IN_PYTHON, Provenance
from gen_prior.hub.tensors import save_safetensors
from gen_prior.util.files import write_bytes
from gen_prior.util.words import counted

NORMALISATIONS = ("none", "layer_norm", "constant_norm_rescale")
"""Ways to normalise the units first, by the names of SAELens."""
CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
EPSILON = 1e-5


@dataclass(frozen=True, eq=False, repr=False)
class Dictionary:
    """Latents f((normalised units - centre) @ encoder + bias), the encoder of a sparse autoencoder.

    f keeps the `k` largest (Gao et al. 2024, arXiv 2406.04093), then those above `threshold` (Rajamanoharan et al.
    2024, arXiv 2407.14435), then, with `rectified`, the positive ones; each of these where it is given.

    Attributes:
        encoder: `[units, latents]`.
        bias: `[latents]`; zero if None.
        centre: `[units]`, subtracted from the units; zero if None.
        decoder: `[latents, units]`, which only `save` needs.
        threshold: `[latents]`, or None.
        k: how many latents of one position may be active, or None for all.
        rectified: True for latents of at least 0, False for directions and probes, whose values have a sign.
        normalise: "none", "layer_norm" (mean 0 and standard deviation 1 over the units of a position) or
            "constant_norm_rescale" (length sqrt(units)).
        layer: the layer that it was trained on, as the file names it; "" if unknown.
        provenance: where it was loaded from, with hashes.

    Raises:
        OptionError: shapes that do not fit, values that are not finite, or an unknown `k` or `normalise`.
    """

    encoder: Tensor
    bias: Tensor | None = None
    centre: Tensor | None = None
    decoder: Tensor | None = None
    threshold: Tensor | None = None
    k: int | None = None
    rectified: bool = True
    normalise: str = "none"
    layer: str = ""
    provenance: Provenance = field(default_factory=Provenance)
    _moved: dict[torch.device, Dictionary] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.encoder.ndim != 2:
            raise OptionError(f"encoder must be [units, latents], got {list(self.encoder.shape)}")
        units, latents = self.encoder.shape
        shapes = {"bias": (latents,), "centre": (units,), "decoder": (latents, units), "threshold": (latents,)}
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and value.shape != shape:
                raise OptionError(f"{name} must have shape {list(shape)}, got {list(value.shape)}")
        for name in ("encoder", *shapes):
            if (value := getattr(self, name)) is not None:
                if not (value.is_meta or torch.isfinite(value).all()):
                    raise OptionError(f"{name} holds values that are not finite")
                object.__setattr__(self, name, value.detach().float())
        if self.k is not None and not 1 <= self.k <= latents:
            raise OptionError(f"k must be between 1 and the {latents} latents, got {self.k}")
        if self.normalise not in NORMALISATIONS:
            raise OptionError(f"normalise must be one of {', '.join(NORMALISATIONS)}, got {self.normalise!r}")

    def __len__(self) -> int:
        """Return the number of latents."""
        return int(self.encoder.shape[1])

    def __repr__(self) -> str:
        kind = counted(len(self), "latent" if self.rectified else "direction")
        active = f", at most {self.k} active" if self.k is not None else ""
        layer = f", of {self.layer}" if self.layer else ""
        source = f", from {self.provenance.source}" if self.provenance.source != IN_PYTHON else ""
        return f"<Dictionary: {kind} of {counted(self.width, 'unit')}{active}{layer}{source}>"

    @property
    def width(self) -> int:
        """Return the number of units that it takes."""
        return int(self.encoder.shape[0])

    def __call__(self, units: Tensor) -> Tensor:
        """Return all latents `[..., latents]` of units `[..., width]`."""
        own = self._on(units.device)
        return own._active(own._before(units), own.threshold)

    def latent(self, number: int) -> Callable[[Tensor], Tensor]:
        """Return the function of one latent: units `[..., width]` -> `[...]`. Raises `OptionError` out of range."""
        self._check(number)

        def read(units: Tensor) -> Tensor:
            own = self._on(units.device)
            if own.k is not None:  # which depends on all others; and one dot product alone would be rounded otherwise
                return own(units)[..., number]
            return own._active(own._before(units, number), None if own.threshold is None else own.threshold[number])

        return read

    def drive(self, number: int) -> Callable[[Tensor], Tensor]:
        """Return the function of one latent before f, which has a gradient where the latent is not active."""
        self._check(number)
        return lambda units: self._on(units.device)._before(units, number)

    def describe_latent(self, number: int) -> dict[str, Any] | None:
        """Plain values from which `rebuild` reads one latent again: its source, or what one latent needs of it.

        None for a latent that depends on others, of a dictionary that is in no file.
        """
        if self.provenance.sha256:
            where = {"source": self.provenance.source, "revision": self.provenance.revision}
            return {"number": number, "dictionary": where | {"sha256": dict(self.provenance.sha256)}}
        if self.k is not None:
            return None
        one = slice(number, number + 1)
        parts = {"encoder": self.encoder[:, one], "centre": self.centre} | {
            name: None if value is None else value[one]
            for name, value in (("bias", self.bias), ("threshold", self.threshold))
        }
        values = {name: None if value is None else value.tolist() for name, value in parts.items()}
        return {"number": 0, "dictionary": values | {"rectified": self.rectified, "normalise": self.normalise}}

    def save(self, folder: str | Path) -> Path:
        """Write the dictionary in the layout of SAELens, which `load_dictionary` reads; return the folder.

        Raises `OptionError` for one that this layout cannot hold, `OSError` where it cannot be written.
        """
        both = self.k is not None and self.threshold is not None
        if self.decoder is None or not self.rectified or both:
            lacks = "lacks a decoder" if self.decoder is None else "has signed latents, or both k and a threshold"
            raise OptionError(f"a dictionary that {lacks} is none of SAELens")
        architecture = "topk" if self.k is not None else "jumprelu" if self.threshold is not None else "standard"
        config = {
            "architecture": architecture,
            "d_in": self.width,
            "d_sae": len(self),
            "dtype": "float32",
            "apply_b_dec_to_input": True,
            "normalize_activations": self.normalise,
            "reshape_activations": "none",
            "metadata": {"hook_name": self.layer},
        } | ({"k": self.k} if self.k is not None else {})
        tensors = {
            "W_enc": self.encoder,
            "b_enc": self.bias if self.bias is not None else torch.zeros(len(self)),
            "W_dec": self.decoder,
            "b_dec": self.centre if self.centre is not None else torch.zeros(self.width),
        } | ({"threshold": self.threshold} if self.threshold is not None else {})
        contiguous = {name: value.clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
        out = Path(folder)
        save_safetensors(out / WEIGHTS, contiguous, {"format": "pt"})
        write_bytes(out / CONFIG, json.dumps(config, indent=1).encode())
        return out

    def _before(self, units: Tensor, number: int | None = None) -> Tensor:
        """Latents before f: all `[..., latents]`, or one `[...]`."""
        units = units.float()
        if self.normalise == "layer_norm":
            away = units - units.mean(-1, keepdim=True)
            units = away / (away.std(-1, keepdim=True) + EPSILON)
        elif self.normalise == "constant_norm_rescale":
            units = units * (math.sqrt(self.width) / units.norm(dim=-1, keepdim=True))
        units = units if self.centre is None else units - self.centre
        bias = 0.0 if self.bias is None else self.bias if number is None else self.bias[number]
        # Contiguous: one latent rounds alike in the whole dictionary and by itself.
        return units @ (self.encoder if number is None else self.encoder[:, number].contiguous()) + bias

    def _active(self, before: Tensor, threshold: Tensor | None) -> Tensor:
        """f of latents; where k counts, of all of them, `[..., latents]`."""
        active = before
        if self.k is not None:
            active = torch.where(before >= before.topk(self.k, dim=-1).values[..., -1:], before, 0.0)
        if threshold is not None:
            active = torch.where(before > threshold, active, 0.0)
        return active.relu() if self.rectified else active

    def _on(self, device: torch.device) -> Dictionary:
        """This dictionary with its tensors on `device`, moved once."""
        if device == self.encoder.device:
            return self
        if device not in self._moved:
            names = ("encoder", "bias", "centre", "threshold")
            moved = {name: value.to(device) for name in names if (value := getattr(self, name)) is not None}
            self._moved[device] = replace(self, decoder=None, **moved)
        return self._moved[device]

    def _check(self, number: int) -> None:
        if not 0 <= number < len(self):
            raise OptionError(f"latent {number} is out of range: the dictionary has latents 0 to {len(self) - 1}")
