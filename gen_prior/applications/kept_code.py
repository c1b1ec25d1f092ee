"""A code that took long to find, kept in a file beside what it was made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from gen_prior.hub.tensors import read_file_metadata, read_tensors, save_safetensors
from gen_prior.util.files import as_output_errors
from gen_prior.util.reading import reading


def kept_code(path: Path | None, made_of: Mapping[str, Any], find: Callable[[], Tensor]) -> Tensor:
    """The code that `find` returns, kept in the file `path` and read from it where it is made of the same."""
    words = json.dumps(made_of, sort_keys=True)
    if path is not None and path.is_file():
        with reading("code", path.parent):
            if read_file_metadata(path).get("made_of") == words:
                return read_tensors(path)["code"]
    code = find()
    if path is not None:
        with as_output_errors(path):
            save_safetensors(path, {"code": code.detach().cpu().clone().contiguous()}, {"made_of": words})
    return code
