"""`make_atlas`: every unit of some layers, in resumable shards, by all cores or GPUs of a machine or by a cluster."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import gen_prior.defaults as defaults
from gen_prior.applications.faithfulness import REFERENCES
from gen_prior.applications.methods import MethodLike, load_methods
from gen_prior.atlas.driver import Sweep
from gen_prior.atlas.manifest import FILE, SHARD_SIZE, Manifest
from gen_prior.atlas.networks import Networks, check_networks, loaded_networks, methods_within
from gen_prior.atlas.photographs import PhotographPass
from gen_prior.atlas.plan import AUTO, Units, chosen_judge, chosen_layers, described_images, plan
from gen_prior.atlas.reader import Atlas
from gen_prior.atlas.records import Records
from gen_prior.atlas.workers import LocalWorkers, ThisProcess, worker_count
from gen_prior.classifiers import load_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import ImageError, OptionError
from gen_prior.objectives.natural_statistics import ATTACHED
from gen_prior.optimise.resolve import seed_list
from gen_prior.recipe import check_scale
from gen_prior.util.devices import autocast, resolve_device
from gen_prior.util.files import is_file
from gen_prior.util.folders import InUseError, check_kind, only_writer
from gen_prior.util.progress import Progress, ProgressCallback, ProgressOption, progress_callback
from gen_prior.util.words import others

WAIT = 1.0
"""Seconds between two looks at a pass over photographs that another process makes."""


def make_atlas(
    classifier: Classifier | str,
    layers: Sequence[str] | str | None = None,
    *,
    out: str | Path,
    units: Units | None = None,
    generators: Sequence[MethodLike] | MethodLike = (defaults.GENERATOR,),
    images: str | Path | None = None,
    seeds: int | Iterable[int] = 1,
    evaluations: int = 64,
    least: bool = False,
    faithfulness: bool = False,
    judge: str | Classifier | None = AUTO,
    scale: str | int | None = None,
    precision: str = "auto",
    device: str = AUTO,
    workers: int | None = None,
    executor: Executor | None = None,
    shard_size: int = SHARD_SIZE,
    classifier_options: Mapping[str, Any] | None = None,
    on_bad: Callable[[str], None] | None = None,
    progress: ProgressOption = None,
) -> Atlas:
    """Make the preferred inputs of every unit of some layers, after OpenAI Microscope (Schubert et al. 2020).

    The work is cut into shards of up to `shard_size` neurons of one layer. A call with the same arguments goes on where
    an earlier one ended, was stopped or killed, neuron by neuron, and ends with the same files. On a CPU a neuron's
    pictures are a function of the manifest and the neuron alone, to the bit: the seeds are those of `synthesize`, so
    that the command in a neuron's row makes the same pictures.

    Args:
        classifier: a network by name, or loaded; only one by name can be loaded by other processes.
        layers: names or patterns (`blocks.*`; `*` stands for no dot, `**` for anything); the blocks and the logits of
            the network if None.
        out: the folder of the atlas.
        units: all units of each layer if None; a range ("0-31", "1,5,9", "0-999:31" for every 31st), numbers, or
            {pattern of layers: either}.
        generators: as the methods of `compare`; each follows its own recipe within `evaluations`.
        images: a folder of photographs. One pass over it finds what photographs reach at each unit, and the most and
            least exciting ones. Without it, the installed table of an embedded classifier serves for comparison.
        seeds: the number of seeds, or the seeds themselves.
        evaluations: classifier evaluations for each picture.
        least: also make the least exciting picture of each unit, which costs as much again.
        faithfulness: also measure path similarity and the two-alternative score beside the photographs; implies `least`
            for all seeds.
        judge: a network that no method optimises, for classes and faithfulness; "auto" takes another embedded network
            where there is anything to judge, None none.
        scale, precision: as `compare` takes them.
        device: where a classifier given by name is loaded.
        workers: processes; one a GPU, or one a core if None. A classifier given as an object is used in this process.
        executor: another engine, any `concurrent.futures.Executor` whose processes see `out`.
        classifier_options: options of `load_classifier`.
        on_bad: called with a message for each photograph that cannot be read; if None, such a file raises.
        progress: True for a bar, or called with a `Progress` in photographs, then in neurons.

    Returns:
        The atlas. A neuron that cannot be made has the reason in its row; a shard that failed three times is set aside
        (`atlas.status()`).

    Raises:
        GenPriorError: unknown names, or a folder that holds another atlas or cannot be written to.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the neurons that were being made are on the disk.
    """
    folder, report = Path(out), progress_callback(progress)
    if evaluations < 1 or shard_size < 1:
        raise OptionError(f"evaluations and shard_size must be at least 1, got {evaluations} and {shard_size}")
    if faithfulness and images is None:
        raise OptionError("faithfulness needs a folder of photographs", fix="--images DIR")
    if scale is not None:
        check_scale(scale)
    spec, options = classifier if isinstance(classifier, str) else None, dict(classifier_options or {})
    network = load_classifier(classifier, device=device, **options) if isinstance(classifier, str) else classifier
    autocast(precision, network.device)
    listed: list[MethodLike] = [generators] if isinstance(generators, MethodLike) else list(generators)
    names = chosen_layers(network, layers)
    arbiter, judge_spec = chosen_judge(judge, network, names, faithfulness)
    methods = methods_within(load_methods(listed, network.device), evaluations, scale)
    networks = Networks(network, methods, arbiter)
    check_kind(folder, FILE)
    before = Manifest.read(folder) if is_file(folder / FILE) else None
    manifest = plan(
        networks, names, units, classifier_spec=spec, classifier_options=options,
        method_specs=[one if isinstance(one, str) else None for one in listed], judge_spec=judge_spec,
        seeds=seed_list(seeds), evaluations=evaluations, scale=scale, precision=precision, least=least or faithfulness,
        faithfulness=faithfulness, images=described_images(images, before), shard_size=shard_size,
    )  # fmt: skip
    begin(folder, manifest, before)
    if images is not None:
        PhotographPass(folder, manifest).set_source(Path(images))
    return go_on(folder, workers=workers, executor=executor, networks=networks, on_bad=on_bad, progress=report)


def begin(folder: Path, manifest: Manifest, before: Manifest | None) -> None:
    """Write the manifest, or check that the folder holds the same one. Raises `OptionError` for another."""
    if before is None:
        images = manifest.content["images"]
        if manifest.content["faithfulness"] and images["count"] < 4 * REFERENCES:
            raise ImageError(f"faithfulness needs at least {4 * REFERENCES} photographs, got {images['count']}")
        manifest.write(folder)
    elif changed := before.differences(manifest):
        raise OptionError(
            f"{folder} holds an atlas with {others(changed)}",
            fix="pass another --out, or the settings and versions of the one that is there",
        )


def go_on(
    out: str | Path,
    *,
    share: tuple[int, int] = (1, 1),
    workers: int | None = None,
    executor: Executor | None = None,
    networks: Networks | None = None,
    on_bad: Callable[[str], None] | None = None,
    progress: ProgressCallback | None = None,
) -> Atlas:
    """Go on with the atlas in `out`, whose manifest says everything.

    Args:
        share: (k, n): make only every n-th shard, from number k - 1 on, while other processes make theirs.
        networks: those of the manifest, where they are loaded.
        workers, executor, on_bad, progress: as `make_atlas` takes them.

    Raises as `make_atlas`.
    """
    folder, manifest = Path(out), Manifest.read(Path(out))
    if not 1 <= share[0] <= share[1]:
        raise OptionError(f"a share is K/N with K from 1 to N, got {share[0]}/{share[1]}", fix="3/16")
    sweep: Sweep | None = None
    records = Records(folder, manifest)
    with stop_signals() as stop, records.in_use():
        if manifest.content["images"] is not None:
            _look_at_photographs(folder, manifest, networks, stop, on_bad, progress)
        with _engine(folder, manifest, networks, workers, executor) as engine:
            sweep = Sweep(records, engine, share=share, stop=stop, progress=progress)
            if not stop():
                sweep.run()
        if stop():
            raise KeyboardInterrupt(f"stopped; {sweep.done} of {sweep.total} neurons are finished in {folder}")
    return Atlas(folder)


def _look_at_photographs(
    folder: Path,
    manifest: Manifest,
    networks: Networks | None,
    stop: Callable[[], bool],
    on_bad: Callable[[str], None] | None,
    progress: ProgressCallback | None,
) -> None:
    """Make the pass over the photographs, or wait for the process that makes it."""

    def report(seen: Progress) -> None:
        if stop():
            raise KeyboardInterrupt(f"stopped; {seen.done} of {seen.total} photographs were looked at for {folder}")
        if progress is not None:
            progress(seen)

    found = PhotographPass(folder, manifest)
    while not found.is_done:
        try:
            with only_writer(found.root):
                known = (
                    networks or loaded_networks(str(folder.resolve()), manifest.identity, manifest.content["device"])[1]
                )
                found.run(known.classifier, on_bad=on_bad, progress=report)
        except InUseError:
            report(Progress(0, manifest.content["images"]["count"], "another process looks at photographs"))
            time.sleep(WAIT)


@contextmanager
def _engine(
    folder: Path, manifest: Manifest, networks: Networks | None, workers: int | None, executor: Executor | None
) -> Iterator[Executor]:
    """The executor of the shards: the user's engine, worker processes or this process; ended after the block."""
    if executor is not None:
        yield executor
        return
    content = manifest.content
    as_objects = content["classifier_spec"] is None or any(one["spec"] is None for one in content["generators"])
    as_objects = as_objects or (content["judge"] is not None and content["judge_spec"] is None)
    if as_objects and (workers or 1) > 1:
        raise OptionError(
            "worker processes cannot load networks that are given as objects",
            fix="give classifier, generators and judge by name (MODULE:NAME for your own), or workers=1",
        )
    device = resolve_device(content["device"])
    count = 1 if as_objects else worker_count(workers, device, manifest.shards)
    if count > 1:
        engine: Executor = LocalWorkers(folder, count, device.type)
        with engine:
            yield engine
        return
    if networks is None:
        networks = loaded_networks(str(folder.resolve()), manifest.identity, content["device"])[1]
    check_networks(manifest, networks)
    attached = networks.classifier.__dict__.get(ATTACHED)
    try:
        with ThisProcess(networks) as engine:
            yield engine
    finally:
        networks.classifier.__dict__.pop(ATTACHED, None)
        if attached is not None:
            networks.classifier.__dict__[ATTACHED] = attached


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """In the block, the first Ctrl-C or SIGTERM makes the yielded function return True; the next one interrupts."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt("stopped")
        asked.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
