"""Activation maximisation through generator priors: images that excite a chosen unit of an image classifier most.

The public names are those of `gen_prior.api`, loaded at first use, so that `gen-prior --help` need not wait for torch.
Inside the package, import from the modules themselves: `from gen_prior.defaults import SEEDS`.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "weights").is_dir():
    # Imported from a checkout, where cli/ and weights/ lie beside this folder; installed, they lie inside it.
    __path__.append(str(_root))

if TYPE_CHECKING:
    from gen_prior.api import *  # noqa: F403
else:

    def __getattr__(name: str) -> object:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        api = importlib.import_module("gen_prior.api")
        globals().update({public: getattr(api, public) for public in api.__all__})
        return getattr(api, name)

    def __dir__() -> list[str]:
        return sorted(importlib.import_module("gen_prior.api").__all__)
