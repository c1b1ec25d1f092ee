"""The examples of docs/objectives.md run as they stand, with fewer steps."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch

PAGE = Path(__file__).parents[2] / "docs" / "objectives.md"


def test_every_example_runs() -> None:
    text = PAGE.read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 8
    assert blocks[0].count("steps = 64") == 1
    names: dict[str, Any] = {}
    for block in blocks:
        lines = text[: text.index(block)].count("\n")
        source = "\n" * lines + block.replace("steps = 64", "steps = 2")
        exec(compile(source, str(PAGE), "exec"), names)
    assert names["result"].activations.shape == (1, 2)
    assert names["undecided"].targets[0]["objective"] == "entropy"
    assert names["undecided"].activations > math.log(1000) / 2
    assert [tuple(result.images.shape) for result in names["results"]] == [(1, 1, 3, 256, 256)] * 2
    assert torch.isfinite(names["chain"].visited).all()


def test_the_tables_name_what_exists() -> None:
    from gen_prior import objectives
    from gen_prior.optimise.edits.code import EDITS
    from gen_prior.optimise.edits.gradient import GRADIENT_EDITS
    from gen_prior.optimise.regularisers import REGULARISERS
    from gen_prior.optimise.transforms import TRANSFORMS

    text = PAGE.read_text()
    for name in objectives.__all__:
        if name not in ("Activations", "Objective", "Score", "activation", "log_probability", "gram"):
            assert f"`{name}(" in text, name
    for name in (*REGULARISERS, *TRANSFORMS, *EDITS, *GRADIENT_EDITS):
        assert f"`{name}`" in text, name
