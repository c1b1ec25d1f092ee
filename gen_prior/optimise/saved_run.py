"""The rule by which `save` of results, comparisons, inversions and the like may write into a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gen_prior.errors import OptionError
from gen_prior.optimise.stored_result import MAX_RECORD_BYTES
from gen_prior.util.files import is_file
from gen_prior.util.folders import OTHER_RUN_FIX, RECORDS, check_kind
from gen_prior.util.reading import read_regular, reading
from gen_prior.util.words import changed_settings, others


def check_saved(folder: Path, record: str, run: Mapping[str, Any], *, overwrite: bool = False) -> bool:
    """True if `folder` holds a run of the kind of the file `record`, False if it holds none.

    `run` is what tells this run from others: values of its record, and of the `settings` in it. Raises `OptionError`
    where the folder holds another run, unless `overwrite` allows to delete it, and `OutputError` for a damaged record.
    """
    check_kind(folder, record, overwrite=overwrite)
    if not is_file(folder / record):
        return False
    if overwrite:
        return True
    now, what = json.loads(json.dumps(run)), RECORDS[record]
    with reading(what.split()[-1], folder):
        before = json.loads(read_regular(folder / record, limit=MAX_RECORD_BYTES, within=folder))
        before = before | before.get("settings", {})
        if not any(name in before for name in now):
            raise ValueError("it says nothing of a run")
        changed = changed_settings(before, now)
    if changed:
        raise OptionError(f"{folder} holds {what} with {others(changed)}", fix=OTHER_RUN_FIX)
    return True
