"""Parsl as the engine of an atlas: its high-throughput executor on this machine, and the configurations of the docs."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor
from parsl.providers.kubernetes import kube

from gen_prior.atlas.atlas import make_atlas
from gen_prior.atlas.executors import ParslEngine, load_engine
from gen_prior.atlas.make_shard import make_shard
from gen_prior.errors import GenPriorError, MissingExtraError, OptionError

NETWORK = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""
LOCAL = """
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

config = Config(
    executors=[
        HighThroughputExecutor(
            max_workers_per_node=1,
            address="127.0.0.1",
            provider=LocalProvider(max_blocks=1, worker_init={init!r}),
        )
    ],
    strategy="none",
)
"""
PAGE = Path(__file__).parents[2] / "docs" / "howto" / "atlas.md"


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in (folder / "shards").rglob("*") if path.is_file()
    }


def test_an_atlas_by_parsl_is_that_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_network.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    paths = os.pathsep.join(filter(None, sys.path))
    init = f"export PATH={sysconfig.get_path('scripts')}:$PATH PYTHONPATH={paths} OMP_NUM_THREADS=1"
    (tmp_path / "cluster.py").write_text(LOCAL.format(init=init))
    settings: dict[str, Any] = {
        "layers": "2", "units": "0-3", "generators": "pixel", "evaluations": 2, "shard_size": 2, "device": "cpu",
        "classifier_options": {"input_size": 24}, "judge": None,
    }  # fmt: skip
    here = make_atlas("own_network:build", out=tmp_path / "here", workers=1, **settings)
    with load_engine(tmp_path / "cluster.py", tmp_path / "there") as engine:
        assert engine.width == 1
        there = make_atlas("own_network:build", out=tmp_path / "there", executor=engine, **settings)
    assert there.status()["finished"] == 4
    assert files(there.folder) == files(here.folder)
    assert (there.folder / "runinfo").is_dir()
    assert not (tmp_path / "runinfo").exists()


def test_errors_of_a_worker_come_back_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(executors=[ThreadPoolExecutor(max_threads=3)], run_dir=str(tmp_path / "logs"))
    with ParslEngine(config, tmp_path) as engine:
        assert engine.width == 3
        future = engine.submit(make_shard, str(tmp_path / "nothing"), 0)
        with pytest.raises(GenPriorError, match="nothing"):
            future.result(timeout=30)
        with pytest.raises(TypeError, match="shards"):
            engine.submit(print, "hello")


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"no such file"):
        load_engine(tmp_path / "none.py", tmp_path)
    for text, says in (
        ("x = 1", "defines no config"),
        ("config = {}", "a config that is a dict"),
        ("1 / 0", "fails with ZeroDivisionError"),
    ):
        (tmp_path / "cluster.py").write_text(text)
        with pytest.raises(OptionError, match=says):
            load_engine(tmp_path / "cluster.py", tmp_path)


def test_without_parsl_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "parsl.config", None)
    with pytest.raises(MissingExtraError, match=r"gen-prior\[cluster\]"):
        load_engine(tmp_path / "cluster.py", tmp_path)


def test_the_configurations_of_the_documentation_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are run as they stand, in place of a cluster's configuration with a stand-in; nothing is started."""
    monkeypatch.setattr(kube, "_kubernetes_enabled", True)
    for name in ("client", "config"):
        monkeypatch.setattr(kube, name, MagicMock(), raising=False)
    blocks = [text for text in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if "config = Config(" in text]
    assert len(blocks) == 3
    for text, provider in zip(blocks, ("LocalProvider", "SlurmProvider", "KubernetesProvider"), strict=True):
        names: dict[str, Any] = {}
        exec(text, names)
        (executor,) = names["config"].executors
        assert type(executor.provider).__name__ == provider
