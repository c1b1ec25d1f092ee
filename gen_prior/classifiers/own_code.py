"""`MODULE:NAME`, as `my_package.my_module:build`: a network that the user's own installed code returns.

The code is run as any import of it would be; only the user can name it, no repository or configuration.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import pkgutil
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.labels import Labels
from gen_prior.errors import GenPriorError, OptionError, UnknownNameError, close_matches
from gen_prior.hub.provenance import Provenance

log = logging.getLogger(__name__)
SPEC = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)")
"""A module and a name in it."""
FORM = "MODULE:NAME, a module that can be imported and a name in it"


def is_code(spec: str) -> bool:
    """True for `MODULE:NAME` whose module, or the package that it is in, is installed or in the current directory.

    The current directory becomes the first from which modules are imported, as with `python -m`.
    """
    match = SPEC.fullmatch(spec)
    if match is None or match[1].endswith(".py"):
        return False
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    return importlib.util.find_spec(match[1].partition(".")[0]) is not None


def mistaken(spec: str) -> GenPriorError | None:
    """The error for text that was meant as `MODULE:NAME`, but names a file or no module; None for other text."""
    path, _, name = (spec, "", "") if spec.endswith(".py") else spec.rpartition(":")
    if path.endswith(".py") or (name.isidentifier() and re.search(r"[/\\]", path)):
        return OptionError(f"{spec!r} is a file, but a network of your own is {FORM}", fix=_as_module(path, name))
    match = SPEC.fullmatch(spec)
    return None if match is None else _unknown_module(match[1].partition(".")[0])


def _as_module(file: str, name: str) -> str:
    """How to write a file as a module."""
    path = Path(file.removesuffix(".py")).expanduser()
    parts = path.parts if not path.is_absolute() else ("",)
    if not path.name.isidentifier():
        return f"rename {Path(file).name} so that it can be imported (letters, digits and _), and write MODULE:NAME"
    if all(part.isidentifier() for part in parts):
        return f"write {'.'.join(parts)}:{name or 'NAME'}"
    return f"write {path.name}:{name or 'NAME'}, and run this in the folder {path.parent}"


def _unknown_module(module: str, package: Any = None) -> UnknownNameError:
    """The error for a module that is not in `package`, or, without one, neither here nor installed."""
    parent, _, name = module.rpartition(".")
    beside = [found.name for found in pkgutil.iter_modules(_folders(package))]
    known = close_matches(name, beside)
    if package is None and not known:
        known = close_matches(name, [found.name for found in pkgutil.iter_modules()])
    fix = f"a network of your own is {FORM}; run this in the folder that holds the module"
    if package is None:
        fix += ", or name a source, such as torchvision:NAME"
    return UnknownNameError("module", module, [f"{parent}.{one}".lstrip(".") for one in known or beside], fix=fix)


def _folders(package: Any) -> list[str]:
    """Folders with the modules of a package; without one, the current folder."""
    return [str(Path.cwd())] if package is None else list(getattr(package, "__path__", []))


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
    The current directory can be imported from. The other arguments are as of `Classifier`; a warning says which mean,
    std or input size is assumed where none is given.

    Raises:
        UnknownNameError: no such name in the module.
        OptionError: the code raises an error or returns something else, or these arguments come with a `Classifier`.
    """
    module_name, name = SPEC.fullmatch(spec).groups()  # type: ignore[union-attr]
    given = {"mean": mean, "std": std, "input_size": input_size, "labels": labels}
    settings: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    module = _guarded(lambda: _imported(module_name), f"import of {module_name}")
    if not hasattr(module, name):
        public = [key for key in vars(module) if not key.startswith("_")]
        published = f", or hf-hub:timm/{name} for a published network" if module_name == "timm" else ""
        raise UnknownNameError(f"name in the module {module_name}", name, public, fix=f"write {FORM}{published}")
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
    made = Classifier(found, name=spec, fold=fold, provenance=Provenance(source=f"code: {spec}"), **settings)
    _say_what_is_assumed(made, given)
    return made


def _say_what_is_assumed(made: Classifier, given: Mapping[str, Any]) -> None:
    """Warn of the input that is assumed for a network where mean, std or size was not `given`."""
    values = {name: ",".join(f"{number:.4g}" for number in numbers) for name, numbers in made.normalisation.items()} | {
        "input_size": " x ".join(map(str, made.input_size))
    }
    words = [
        f"{name.replace('_', ' ')} {values[name]}" for name in ("mean", "std", "input_size") if given[name] is None
    ]
    if words:
        log.warning(
            "%s: %s assumed, as ImageNet networks have them, because not given. Fix: --mean, --std and --input-size, "
            "in Python mean=, std= and input_size=, as it was trained", made.name, ", ".join(words),
        )  # fmt: skip


def _imported(name: str) -> Any:
    """The module of this name. Raises `UnknownNameError` where a package on the way to it has no such module."""
    for length in range(1, name.count(".") + 2):
        part = ".".join(name.split(".")[:length])
        try:
            module = importlib.import_module(part)
        except ModuleNotFoundError as error:
            if error.name != part or length == 1:
                raise
            raise _unknown_module(part, module) from error
    return module


def _guarded(call: Any, what: str) -> Any:
    """The result of the user's code. Its errors become `OptionError`, with the line that raised them."""
    try:
        return call()
    except UnknownNameError:
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise OptionError(f"{what} failed: {reason} ({Path(frame.filename).name}, line {frame.lineno})") from error
