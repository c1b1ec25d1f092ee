"""Training stages, and `run_stage`, which runs any of them: refuse early, read photographs, train, export."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.utils import make_grid

from gen_prior.classifiers import Classifier
from gen_prior.errors import ImageError, OptionError
from gen_prior.generators.dgn.generator import FILE
from gen_prior.generators.dgn.network import WhitenedDecoder
from gen_prior.hub.tensors import read_file_metadata
from gen_prior.training.checkpoints import checkpoints
from gen_prior.training.networks import FeatureExtractor
from gen_prior.training.photographs import Photographs, Sources, check_sources, open_photographs
from gen_prior.training.prior_file import Prior, load_networks, next_number, open_prior, pass_encoder_on, save_generator
from gen_prior.training.settings import TrainingSettings
from gen_prior.training.trainer import LoopOptions, Trainer
from gen_prior.util.devices import resolve_device
from gen_prior.util.folders import only_writer
from gen_prior.util.progress import ProgressCallback

if TYPE_CHECKING:
    from typing_extensions import Unpack

SHEET_COLUMNS = 8
SHEET_SCALES = (1.0, 0.3)
"""Distances from the mean, relative to that of initial codes, at which sheets show codes."""
Settings = TypeVar("Settings", bound=TrainingSettings)


@dataclass
class Material:
    """Networks, folders and photographs that a stage works with; None for those that it does not need."""

    classifier: Classifier | None
    extractor: FeatureExtractor | None
    prior: Prior | None
    out: Path
    device: torch.device
    resume: bool = False
    cache: Path = Path()
    """Folder of what is computed once from photographs."""
    photographs: Photographs | None = None
    large: Photographs | None = None
    """Larger photographs that the stage reads beside `photographs`."""
    start: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors of the networks to start from."""
    progress: ProgressCallback | None = None


class Stage(Trainer):
    """A trainer that makes a prior, or extends one.

    A subclass says what it needs, trains in `update` and gives the trained prior by `network`.
    """

    Settings: ClassVar[type[TrainingSettings]]
    record: ClassVar[str]
    """Key of the metadata under which the prior's file keeps this stage's settings."""
    repeatable: ClassVar[bool] = False
    """True if the file keeps the records of several runs of this stage."""
    extends: ClassVar[bool] = True
    """True if the stage extends a prior; False if it makes one."""
    reads: ClassVar[str | None] = "images"
    """The photographs that it reads: "images", "large" (larger ones, if there are some), or None."""

    def __init__(self, material: Material, settings: Any) -> None:
        super().__init__(settings, material.device)
        self.material = material
        if material.extractor is not None:
            self.hook_layers = material.extractor.hook_layers

    @classmethod
    def refuse(cls, settings: Any, classifier: Classifier | None) -> None:
        """Raises `OptionError` if the settings do not fit the classifier."""

    @classmethod
    def completed(cls, settings: Any, prior: Prior) -> Any:
        """The settings with those that follow from the prior. Raises `OptionError` if the stage cannot extend it."""
        return settings

    def network(self, *, final: bool = False) -> WhitenedDecoder:
        """The prior with the averaged weights; `final`: for the export, else for a sheet."""
        raise NotImplementedError

    def metadata(self) -> dict[str, str]:
        """Metadata of the exported file: the parent's, and a record of this run."""
        parent = self.material.prior.metadata if self.material.prior else {}
        number = next_number(parent, f"{self.record}_data") if self.repeatable else ""
        own = {f"{self.record}{number}": json.dumps(asdict(self.settings) | {"steps_done": self.step})}
        if self.material.photographs is not None:
            own[f"{self.record}_data{number}"] = json.dumps(asdict(self.material.photographs.description))
        return parent | own

    def save_networks(self) -> None:
        """Write the networks that later stages need into the folder of the run."""
        if self.material.prior is not None:
            pass_encoder_on(self.material.prior.folder, self.material.out)

    def sheet(self) -> Tensor:
        """A picture `[3, H, W]` in [0, 1] of what the prior draws: initial codes, and the same nearer to the mean."""
        network = self.network().to(self.device)
        noise = torch.randn(SHEET_COLUMNS, network.dims, generator=torch.Generator().manual_seed(0)).to(self.device)
        classes = 1 if network.flow is None else len(network.flow.classes)
        with torch.no_grad():
            starts = network.start(torch.linspace(0, classes - 1, SHEET_COLUMNS).long().to(self.device), noise)
            rows = [*self.photograph_rows(network), *(network(scale * starts) for scale in SHEET_SCALES)]
        side = rows[-1].shape[-1]
        images = torch.cat([F.interpolate(row.float(), side).clamp(0, 1).cpu() for row in rows])
        grid: Tensor = make_grid(images, nrow=SHEET_COLUMNS)
        return grid

    def photograph_rows(self, network: WhitenedDecoder) -> list[Tensor]:
        """Rows of the sheet that come before: images of photographs, `[SHEET_COLUMNS, 3, S, S]` each."""
        return []


def run_stage(
    kind: type[Stage],
    out: str | Path,
    settings: TrainingSettings | None = None,
    *,
    classifier: Classifier | None = None,
    images: Sources | None = None,
    large: Sources | None = None,
    prior: str | Path | None = None,
    start_from: str | Path | None = None,
    device: str = "auto",
    cache: Path | None = None,
    limit: int = 0,
    most_large: int = 0,
    resume: bool = False,
    timing: Callable[[str, float], None] | None = None,
    progress: ProgressCallback | None = None,
    **options: Unpack[LoopOptions],
) -> Path:
    """Run one stage of the training of a prior, and export the prior.

    Args:
        out: folder for checkpoints, `log.jsonl`, `sheet.png` and the result.
        settings: all that the result is a function of, beside the classifier, the prior and the photographs.
        classifier: the one that the prior is for; it is read, never changed.
        images: photographs: folders, nested or flat, or `.tar` shards of them.
        large: larger photographs, for stages that read some; `images` if not given.
        prior: the folder of an earlier stage, for stages that extend a prior.
        start_from: `networks.safetensors` of another decoder run of the same shape, to start with its networks.
        device: where there is no classifier, the device to train on.
        cache: folder for decoded photographs and their codes; in `out` if not given.
        limit: read only so many photographs, evenly spaced; 0: all.
        most_large: the same for the larger ones.
        resume: go on from the newest undamaged checkpoint in `out`.
        timing: called with the name of each part of the work, when it is done, and the seconds that it took.
        progress: called while photographs are read and encoded.
        options: see `gen_prior.training.trainer.LoopOptions`.

    Returns:
        The exported file; `load_generator("local-dir:OUT")` loads it.

    Raises:
        OptionError: impossible settings, a classifier that cannot be read, a folder with another run.
        WeightsError: no prior in its folder, or a damaged one.
        ImageError: no images, too few, or most of them unreadable.
        DivergedError: the run diverged. OutputError: a folder that cannot be written to, or is in use.
    """
    chosen: Any = settings if settings is not None else kind.Settings()
    out = Path(out)
    chosen.check()
    kind.refuse(chosen, classifier)
    sources = large if kind.reads == "large" and large is not None else images if kind.reads else None
    if sources is not None:
        check_sources(sources)
    _check_out(kind, out, Path(prior) if prior is not None else None, resume)
    material = Material(classifier, None, None, out, classifier.device if classifier else resolve_device(device))
    material.resume, material.cache, material.progress = resume, cache or out / "cache", progress
    if kind.extends and prior is not None:
        material.prior = open_prior(Path(prior), classifier)
        material.extractor = material.prior.extractor
        chosen = replace(kind.completed(chosen, material.prior), parent_sha256=material.prior.sha256)
    elif classifier is not None:
        material.extractor = FeatureExtractor(classifier, chosen.size)
    if start_from is not None:
        material.start, digest = load_networks(Path(start_from))
        chosen = replace(chosen, started_from=digest, adversarial_from=0)
    clock = _Clock(timing)
    with only_writer(out):
        if sources is not None:
            fewer = limit or (most_large if kind.reads == "large" else 0)
            crops = getattr(chosen, "crops", 1)
            material.photographs = _read(sources, material, chosen, chosen.size, crops, fewer)
            clock.done("reading")
            if getattr(chosen, "large_share", 0):
                fewer, crops = limit or most_large, chosen.crops_large
                material.large = _read(large or sources, material, chosen, 2 * chosen.size, crops, fewer)
                clock.done("reading larger")
        stage = kind(material, chosen)
        clock.done("preparing")
        stage.run(out, resume=resume, sheet=stage.sheet, **options)
        clock.done("training")
        network, metadata = stage.network(final=True), stage.metadata()
        stage.save_networks()
        file = save_generator(network, metadata, out)
        clock.done("exporting")
        return file


class _Clock:
    """Reports the seconds since the last part of the work was done."""

    def __init__(self, timing: Callable[[str, float], None] | None) -> None:
        self.timing, self.last = timing, time.monotonic()

    def done(self, part: str) -> None:
        now = time.monotonic()
        if self.timing is not None:
            self.timing(part, now - self.last)
        self.last = now


def _check_out(kind: type[Stage], out: Path, prior: Path | None, resume: bool) -> None:
    """Raises `OptionError` if `out` holds another run, or a prior that this stage did not make."""
    if checkpoints(out) and not resume:
        raise OptionError(f"{out} holds a training run", fix="go on with --resume, or pass another --out")
    file = out / FILE
    if (prior is not None and out.resolve() == prior.resolve()) or (
        file.exists() and kind.record not in read_file_metadata(file)
    ):
        raise OptionError(f"{out} holds another prior", fix="pass another --out")


def _read(sources: Sources, material: Material, settings: Any, size: int, crops: int, limit: int) -> Photographs:
    """The photographs in `sources`. Raises `ImageError` if there are fewer than two batches of them."""
    photographs = open_photographs(sources, size, material.cache, material.progress, crops, limit)
    if len(photographs) < 2 * settings.batch:
        raise ImageError(
            f"{len(photographs)} readable images are too few for batches of {settings.batch}",
            fix="pass more images, or a smaller --batch",
        )
    return photographs
