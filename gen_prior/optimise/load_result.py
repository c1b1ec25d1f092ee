"""`load_result`: a folder of `synthesize` -> its `Result`, exact to the bit and ready to replay."""

from __future__ import annotations

from pathlib import Path

from gen_prior.optimise.result import Result
from gen_prior.optimise.synthesize import rerun


def load_result(folder: str | Path) -> Result:
    """The result saved in `folder`, exact to the bit; images and codes are read from the folder whenever asked for.

    Raises `OutputError` where it is missing or damaged.
    """
    result = Result.from_folder(Path(folder))
    result.attach(None, None, rerun)
    return result
