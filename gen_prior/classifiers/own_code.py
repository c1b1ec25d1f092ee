"""`MODULE:NAME`, as `my_package.my_module:build`: a network that the user's own installed code returns.

The code is run as any import of it would be; only the user can name it, no repository or configuration.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.labels import Labels
from gen_prior.errors import OptionError, UnknownNameError
from gen_prior.hub.provenance import Provenance

SPEC = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)")
"""A module and a name in it."""


def is_code(spec: str) -> bool:
    """True for `MODULE:NAME` whose module, or the package that it is in, is installed or in the current directory.

    The current directory becomes the first from which modules are imported, as with `python -m`.
    """
    match = SPEC.fullmatch(spec)
    here = str(Path.cwd())
    if match is not None and here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    return match is not None and importlib.util.find_spec(match[1].partition(".")[0]) is not None


def load(
    spec: str,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    input_size: int | tuple[int, int] | None = None,
    labels: Sequence[str] | Mapping[int, str] | Labels | None = None,
    fold: bool = True,
) -> Classifier:
    """Import the module of `spec`, `MODULE:NAME`, and wrap the network that NAME is or returns.

    NAME is a module of torch, a `Classifier`, or a function or class that returns one when called without arguments.
    The current directory can be imported from. The other arguments are as of `Classifier`.

    Raises:
        UnknownNameError: no such name in the module.
        OptionError: the code raises an error or returns something else, or these arguments come with a `Classifier`.
    """
    module_name, name = SPEC.fullmatch(spec).groups()  # type: ignore[union-attr]
    given = {"mean": mean, "std": std, "input_size": input_size, "labels": labels}
    settings: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    module = _guarded(lambda: importlib.import_module(module_name), f"import of {module_name}")
    if not hasattr(module, name):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise UnknownNameError(f"name in the module {module_name}", name, public, fix="write MODULE:NAME")
    found = getattr(module, name)
    if callable(found) and not isinstance(found, nn.Module | Classifier):
        found = _guarded(found, f"{spec}()")
    if isinstance(found, Classifier):
        if settings:
            raise OptionError(f"{spec} is a Classifier, which has its own {', '.join(settings)}", fix="leave them out")
        return found
    if not isinstance(found, nn.Module):
        raise OptionError(
            f"{spec} gives a {type(found).__name__}",
            fix="let it be, or return, a torch.nn.Module or a gen_prior.Classifier",
        )
    return Classifier(found, name=spec, fold=fold, provenance=Provenance(source=f"code: {spec}"), **settings)


def _guarded(call: Any, what: str) -> Any:
    """The result of the user's code. Its errors become `OptionError`, with the line that raised them."""
    try:
        return call()
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise OptionError(f"{what} failed: {reason} ({Path(frame.filename).name}, line {frame.lineno})") from error
