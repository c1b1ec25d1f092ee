"""One shard of an atlas, made by this process: the function that every engine calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gen_prior.applications.faithfulness import Panel
from gen_prior.atlas.manifest import Manifest, Shard
from gen_prior.atlas.networks import Networks, loaded_networks
from gen_prior.atlas.neurons import Maker
from gen_prior.atlas.photographs import PhotographPass
from gen_prior.atlas.records import Records
from gen_prior.atlas.shards import finished_units, neuron_file, publish
from gen_prior.errors import OutputError
from gen_prior.util.folders import InUseError, only_writer, shared_folder

AT_ONCE = 64
"""Pictures that an accelerator makes at once."""
DONE, BUSY, STOPPED = "done", "busy", "stopped"


def make_shard(
    folder: str, index: int, *, networks: Networks | None = None, stop: Callable[[], bool] | None = None
) -> dict[str, Any]:
    """Make shard `index` of the atlas in `folder`, from where another process left it, and publish it.

    A process loads the networks at its first shard and keeps them. Each neuron is on the disk before the next one
    begins. Call it from any engine: `executor.submit(make_shard, folder, index)`.

    Args:
        networks: those of the manifest, where they are loaded already.
        stop: asked between neurons; if it returns True, what is finished stays on the disk for later.

    Returns:
        `{"shard", "state", "made", "seconds"}`: the state is "done", "busy" (another process makes it) or "stopped".

    Raises `GenPriorError`: a folder that cannot be written to, or networks that are not those of the manifest.
    """
    began, path = time.perf_counter(), Path(folder)
    if networks is None:
        manifest, networks = networks_of(folder)
    else:
        manifest = Manifest.read(path)
    records, shard = Records(path, manifest), manifest.shard(index)
    made = 0
    state = DONE
    if not records.is_done(index):
        try:
            with shared_folder(path / "shards"), only_writer(records.partial(index)):
                if not records.is_done(index):  # it may have been published since
                    made, state = _make(records, shard, networks, stop or (lambda: False), began)
        except InUseError:
            state = BUSY
    return {"shard": index, "state": state, "made": made, "seconds": round(time.perf_counter() - began, 3)}


def networks_of(folder: str) -> tuple[Manifest, Networks]:
    """The manifest of the atlas in `folder` and its networks, which this process keeps. Raises as `make_shard`."""
    path = Path(folder)
    manifest = Manifest.read(path)
    return loaded_networks(str(path.resolve()), manifest.identity, manifest.content["device"])


def _make(
    records: Records, shard: Shard, networks: Networks, stop: Callable[[], bool], began: float
) -> tuple[int, str]:
    """Make what is missing of a shard; the number of neurons that were made, and the state."""
    done = finished_units(records, shard)
    missing = [unit for unit in shard.units if unit not in done]
    if missing:
        maker, exemplars = _maker(records, shard, networks)
        size = _chunk(networks, len(records.manifest.content["seeds"]))
        for first in range(0, len(missing), size):
            if stop():
                return first, STOPPED
            units = missing[first : first + size]
            neurons = maker.make([f"{shard.layer}:{unit}" for unit in units], exemplars)
            for unit, neuron in zip(units, neurons, strict=True):
                neuron.save(neuron_file(records, shard, unit), records.manifest.identity)
    publish(records, shard, time.perf_counter() - began)
    return len(missing), DONE


def _maker(records: Records, shard: Shard, networks: Networks) -> tuple[Maker, dict[str, Any]]:
    """The networks and settings that make the neurons of a shard, and the photographs at their extremes."""
    manifest = records.manifest
    if manifest.content["images"] is None:
        return Maker(manifest, networks, None), {}
    found = PhotographPass(records.folder, manifest)
    if not found.is_done:
        raise OutputError(
            f"the pass over the photographs of {records.folder} is not finished",
            fix="run the command that made the atlas, which begins with it",
        )
    if networks.statistics_of != manifest.identity:
        networks.attach_statistics(records.folder, manifest)
    source = None
    if manifest.content["faithfulness"]:
        source = found.source()
        if networks.panel is None and networks.judge is not None:
            networks.panel = Panel(networks.classifier, networks.judge, [], source)
    return Maker(manifest, networks, source), found.exemplars(shard)


def _chunk(networks: Networks, seeds: int) -> int:
    """Neurons at a time: on a CPU as many as there are threads, so that little is lost; elsewhere a full batch."""
    if networks.classifier.device.type == "cpu":
        return torch.get_num_threads()
    return max(1, AT_ONCE // seeds)
