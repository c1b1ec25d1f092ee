"""Stage `add_class_exemplars`: store for each class codes of photographs to start from. Nothing is trained.

1. Encode all photographs, and rank them for each class by the classifier's log odds.
2. Take the first ones for each class that differ enough from those taken before; every second one mirrored.
3. Write their codes into the prior's flow, which starts seeds of the class at them.

After Nguyen et al. 2016 (arXiv 1602.03616), who start at means of a class's photographs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from gen_prior.classifiers import Classifier
from gen_prior.errors import ImageError, OptionError
from gen_prior.generators.dgn.config import MAX_ELEMENTS
from gen_prior.generators.dgn.flow import CodeFlow, quantise_exemplars
from gen_prior.generators.dgn.generator import FILE
from gen_prior.hub.tensors import read_file_metadata
from gen_prior.training.checkpoints import checkpoints
from gen_prior.training.fit import read_photographs
from gen_prior.training.photograph_codes import last_layer, read_codes
from gen_prior.training.photographs import check_sources
from gen_prior.training.prior_file import Prior, open_prior, save_encoder, save_generator
from gen_prior.training.stages.flow import FlowSettings
from gen_prior.util.progress import ProgressCallback

MOST = 256
CANDIDATES = 8
"""Photographs considered for each one that is taken."""
CHUNK = 8192


@dataclass(frozen=True)
class ExemplarSettings:
    """All that class exemplars are a function of, beside the photographs, the classifier and the prior."""

    layouts: int = 8
    """Photographs per class."""
    alike: float = 0.7
    """Least distance of two of them, relative to the mean distance of two photographs."""
    view: int = 0
    """Side at which the classifier sees the photographs, in pixels; 0: as for the prior's flow."""
    parent_sha256: str = ""
    """SHA-256 of the prior's file."""

    def check(self) -> None:
        """Raises `OptionError` for values out of range."""
        if not 1 <= self.layouts <= MOST:
            raise OptionError(f"layouts must lie in 1 to {MOST}, got {self.layouts}")
        if not 0 <= self.alike <= 1:
            raise OptionError(f"alike must lie in 0 to 1, got {self.alike}")


def add_class_exemplars(
    classifier: Classifier,
    prior: str | Path,
    images: str | Path,
    out: str | Path,
    settings: ExemplarSettings | None = None,
    *,
    progress: ProgressCallback | None = None,
) -> Path:
    """Choose for each class the photographs in which `classifier` is surest of it; export the prior with their codes.

    The photographs need not be of the class: those that the classifier takes for it most have its form, or a similar
    one. The network's weights do not change.

    Args:
        classifier: the one that the prior was trained on; it must end with a linear layer.
        prior: the folder of `train_flow`, or of a later stage.
        images: photographs: a folder, nested or flat, or `.tar` shards.
        out: another folder, for the cache and the result. A second call uses the codes that the first has computed.
        settings: how many photographs, and how different from each other.
        progress: called while photographs are read and while they are encoded.

    Returns and raises as `train_flow`; also `OptionError` for a prior without a flow or names of classes.
    """
    settings, out = settings if settings is not None else ExemplarSettings(), Path(out)
    check_sources(images)
    settings.check()
    last = last_layer(classifier)
    parent = open_prior(Path(prior), classifier)
    old = _checked_flow(parent, prior, last, settings)
    _check_out(out, Path(prior))
    photographs = read_photographs(images, out, 1, parent.network.config.size, progress)
    if len(photographs) < settings.layouts:
        raise ImageError(
            f"{len(photographs)} readable images are too few for {settings.layouts} layouts",
            fix="pass more images, or a smaller --layouts",
        )
    view = settings.view or json.loads(parent.metadata.get("flow", "{}")).get("view", FlowSettings.view)
    settings = replace(settings, view=view, parent_sha256=parent.sha256)
    codes = read_codes(parent, photographs, view, out / "cache", progress)
    ranking = ranked(codes.features, last, CANDIDATES * settings.layouts)
    network = parent.network
    chosen = chosen_codes(codes.white, ranking, network.basis.float().square().sum(0).cpu(), settings)
    flow = CodeFlow(network.basis.shape[1], replace(old.config, exemplars=settings.layouts))
    flow.load_state_dict(old.state_dict() | {"layouts": quantise_exemplars(chosen)})
    save_encoder(parent.encoder, out)
    added = {
        "layouts": json.dumps(asdict(settings)),
        "layouts_data": json.dumps(asdict(photographs.description)),
    }
    return save_generator(network.with_parts(flow=flow), parent.metadata | added, out)


def _checked_flow(parent: Prior, prior: str | Path, last: nn.Linear, settings: ExemplarSettings) -> CodeFlow:
    """The prior's flow. Raises `OptionError` if it cannot hold exemplars of the classifier's classes."""
    network, flow = parent.network, parent.network.flow
    if flow is None or len(flow.classes) != last.out_features:
        raise OptionError(f"the prior in {prior} has no flow for these classes", fix="pass it to flow-prior first")
    if not json.loads(parent.metadata.get("classes", "[]")):
        raise OptionError(
            f"the classes of the prior in {prior} have no names, by which seeds find their exemplars",
            fix="run flow-prior with a classifier that has labels",
        )
    most = MAX_ELEMENTS // flow.classes.shape[0] // network.basis.shape[1]
    if settings.layouts > most:
        raise OptionError(f"layouts must lie in 1 to {most} for so many classes, got {settings.layouts}")
    return flow


def _check_out(out: Path, prior: Path) -> None:
    """Raises `OptionError` if `out` holds anything but an earlier result of this stage."""
    file = out / FILE
    other = file.exists() and "layouts" not in read_file_metadata(file)
    if other or checkpoints(out) or out.resolve() == prior.resolve():
        raise OptionError(f"{out} holds another prior", fix="pass another --out")


def ranked(features: Tensor, last: nn.Linear, count: int) -> Tensor:
    """Indices of the photographs with the highest log odds of each class, best first: `[classes, count]`.

    `features`: `[N, F]`; fewer than `count` if there are fewer photographs.
    """
    classes = last.out_features
    values, indices = torch.empty(0, classes, dtype=torch.double), torch.empty(0, classes, dtype=torch.long)
    for start in range(0, len(features), CHUNK):
        with torch.no_grad():
            logits = last(features[start : start + CHUNK].to(last.weight)).cpu()
        log_p = logits.double().log_softmax(1)
        odds = log_p - torch.log(-torch.expm1(log_p))  # probabilities would all be 1 for the surest
        rows = torch.arange(start, start + len(odds))[:, None].expand(-1, classes)
        values, indices = torch.cat([values, odds]), torch.cat([indices, rows])
        values, best = values.topk(min(count, len(values)), dim=0)
        indices = indices.gather(0, best)
    return indices.T


def chosen_codes(white: Tensor, ranking: Tensor, variances: Tensor, settings: ExemplarSettings) -> Tensor:
    """White codes `[classes, layouts, D]` of the first different photographs of `ranking` `[classes, M]`.

    `white`: `[N, 2, D]`, photographs and their mirrors. A photograph too near to one taken before is left out as long
    as there are others; every second one taken is mirrored.
    """
    weights = variances / variances.mean()
    source = torch.Generator().manual_seed(0)
    pairs = torch.randint(len(white), (2, 1024), generator=source)
    usual = distance(white[pairs[0], 0].float(), white[pairs[1], 0].float(), weights).mean()
    classes = []
    for order in ranking:
        candidates = white[order].float()
        taken: list[int] = []
        for index in range(len(order)):
            if len(taken) == settings.layouts:
                break
            before = candidates[taken].flatten(0, 1)
            near = distance(before, candidates[index, 0], weights) if taken else usual[None]
            if float(near.min()) >= settings.alike * float(usual):
                taken.append(index)
        left = [index for index in range(len(order)) if index not in taken]
        taken = (taken + left)[: settings.layouts]
        taken += [taken[0]] * (settings.layouts - len(taken))
        classes.append(candidates[taken, torch.arange(settings.layouts) % 2])
    return torch.stack(classes)


def distance(one: Tensor, other: Tensor, weights: Tensor) -> Tensor:
    """RMS distance of white codes `[..., D]`, each dim weighted by its variance in spatial codes: `[...]`."""
    return ((one - other).square() * weights).mean(-1).sqrt()
