"""The package's face: public names, loaded at first use."""

from __future__ import annotations

import subprocess
import sys

import pytest

import gen_prior
from gen_prior import api


def test_every_public_name_is_there() -> None:
    for name in api.__all__:
        assert getattr(gen_prior, name) is getattr(api, name)
    assert dir(gen_prior) == sorted(api.__all__)
    assert gen_prior.__all__ == api.__all__  # type: ignore[attr-defined]


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="synthesise"):
        _ = gen_prior.synthesise  # type: ignore[attr-defined]


def test_names_are_found_in_a_fresh_interpreter_whatever_is_imported_first() -> None:
    code = (
        "import sys, gen_prior; assert 'torch' not in sys.modules\n"
        "import gen_prior.applications.compare, gen_prior.optimise.synthesize\n"
        "from gen_prior import *\n"
        "assert callable(compare) and callable(gen_prior.synthesize) and gen_prior.optimise.engine.Engine"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
