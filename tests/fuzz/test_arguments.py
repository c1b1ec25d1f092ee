"""Targets and argument lists as people mistype them: errors of ours, exit codes 0 to 2, no traceback."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from command_runner import Run
from fuzz.mutations import LONG, fuzz
from hypothesis import strategies as st

from gen_prior.classifiers import Classifier
from gen_prior.errors import GenPriorError
from gen_prior.objectives.expressions import parse_targets
from gen_prior.objectives.targets import parse_target

PARTS = [
    "bee", "ant", "crane bird", "conv1", "conv2", "logits", "fc", ":", ":3", ":0-4", ":*", ":-1", "@mean", "@max",
    "@1,2", "@token=3", "@", ",", "+", "-", "*", "0.7*", "1e400*", "nan*", "9" * 5000, "n01443537", "**", "~", " ",
    "(", ")", "[", "\0", "é", "٣", "3", "1_0", "0x1", "1e3",
]  # fmt: skip
TARGETS = st.lists(st.sampled_from(PARTS) | st.text(max_size=3), max_size=6).map("".join)
WORDS = [
    "synth", "compare", "dream", "invert", "evolve", "dataset", "models", "labels", "layers", "replay", "export",
    "calibrate", "pull", "bee", "tiny", "--classifier", "--generator", "-g", "--seeds", "--seed", "--steps", "--rate",
    "--scale", "--batch", "--out", "--json", "-q", "--record", "every=2", "--film", "gif", "--set", "a=1", "--preset",
    "dgnam2016", "--layer", "conv2", "--judge", "none", "--filter", "top1", "--per-class", "--classes", "--ask",
    "--tell", "--population", "--device", "cpu", "cuda:99", "0", "1", "-1", "9" * 5000, "nan", "1e999", "\0", "", "--",
    "--overwrite", "--precision", "fp8", "local-dir:.", "hf-hub:a", "preset:x", "--candidates", "--trials", "@", "*",
]  # fmt: skip


@pytest.mark.parametrize("count", [150, pytest.param(5000, marks=LONG)])
def test_targets(count: int, tiny_classifier: Classifier) -> None:
    def check(text: str) -> None:
        for parse in (parse_target, parse_targets):
            with contextlib.suppress(GenPriorError):
                parse(text, tiny_classifier)

    fuzz(count, TARGETS, check, ["9" * 5000, "conv2:" + "9" * 5000, "conv2:0-" + "9" * 5000, "1e400*bee", "\0"])


@pytest.mark.parametrize("count", [60, pytest.param(100, marks=LONG)])
def test_argument_lists(count: int, tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    cheap = ["-c", "tiny", "--steps", "1", "--seeds", "1"]

    def check(words: list[str]) -> None:
        if words[:1] in (["synth"], ["compare"], ["invert"], ["dream"], ["evolve"]):
            words = [*words, *(cheap if words[0] in ("synth", "compare") else cheap[:2])]
        assert Run(*words).code in (0, 1, 2)

    known = [
        ["synth", "bee", "--scale", "9" * 5000],
        ["synth", "bee", "--record", "every=" + "9" * 5000],
        ["synth", "9" * 5000],
        ["dream", "\0"],
        ["replay", "\0"],
        ["synth", "bee", "-g", "local-dir:\0"],
    ]
    fuzz(count, st.lists(st.sampled_from(WORDS), min_size=1, max_size=7), check, known)
