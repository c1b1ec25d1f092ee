"""`layout_prior`: a prior with a flow learns by heart some photographs' codes for each class to begin with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from gen_prior.classifiers import Classifier
from gen_prior.errors import ImageError, OptionError
from gen_prior.generators.dgn.config import MAX_NUMBERS
from gen_prior.generators.dgn.flow import CodeFlow, layouts_of
from gen_prior.generators.dgn.generator import FILE
from gen_prior.generators.dgn.network import WhiteCodes
from gen_prior.hub.tensors import read_file_metadata
from gen_prior.training.checkpoints import checkpoints
from gen_prior.training.export import save_encoder, save_generator
from gen_prior.training.fit import read_photographs
from gen_prior.training.photograph_codes import head_of, read_codes
from gen_prior.training.photographs import Count, check_source
from gen_prior.training.prior_file import open_prior
from gen_prior.training.stages.flow import CODES_FILE
from gen_prior.training.stages.flow_trainer import FlowSettings

MOST = 256
CANDIDATES = 8
"""Photographs that are looked at for each layout."""
CHUNK = 8192


@dataclass(frozen=True)
class LayoutSettings:
    """Everything but the data, the classifier and the prior that layouts are a function of."""

    layouts: int = 8
    """Photographs for each class."""
    alike: float = 0.7
    """Least distance of two of them, in parts of the mean distance of two photographs."""
    view: int = 0
    """Side at which the classifier sees the photographs; 0: as for the prior's flow."""
    extends: str = ""
    """SHA-256 of the prior's file."""


def layout_prior(
    classifier: Classifier,
    prior: str | Path,
    images: str | Path,
    out: str | Path,
    settings: LayoutSettings | None = None,
    *,
    reading: Count | None = None,
    encoding: Count | None = None,
) -> Path:
    """Choose for each class the photographs in which `classifier` is surest of it; export the prior with their codes.

    No photograph needs to be of the class: what the classifier takes for it most has its form, or a form near it. The
    weights stay as they are. Codes are begun at the features that a class asks for and at one of its photographs' codes
    (`gen_prior.generators.dgn.flow.begun`), which the seed chooses. After Nguyen et al. 2016, arXiv 1602.03616, who
    begin at means of photographs.

    Args:
        classifier: the one that the prior was trained on; its last linear layer says how sure it is of each class.
        prior: the folder of `flow_prior`, or of a training that went on from it.
        images: photographs: a folder, nested or flat, or `.tar` shards.
        out: another folder, for the cache and the result. A second call takes over what the first has encoded.
        settings: how many, and how different from each other.
        reading, encoding: called as (done, total) while photographs are read, and while they are encoded.

    Returns:
        The exported file; `load_generator("local-dir:OUT")` loads it.

    Raises:
        OptionError: settings that make no sense, another classifier, one without a linear layer, a prior without a
            flow or names of classes, a folder with another prior.
        WeightsError: a folder without a prior.
        ImageError: no images, too few, or most of them unreadable.
        OutputError: a folder that cannot be written to.
    """
    settings, out = settings if settings is not None else LayoutSettings(), Path(out)
    check_source(images)
    if not 1 <= settings.layouts <= MOST:
        raise OptionError(f"layouts must lie in 1 to {MOST}, got {settings.layouts}")
    if not 0 <= settings.alike <= 1:
        raise OptionError(f"alike must lie in 0 to 1, got {settings.alike}")
    head = head_of(classifier)
    network, config, metadata, digest, trunk, encoder = open_prior(Path(prior), classifier, detailed=True)
    if network.flow is None or len(network.flow.classes) != head.out_features:
        raise OptionError(
            f"the prior in {prior} has no flow that knows these classes", fix="pass it to flow-prior first"
        )
    if not json.loads(metadata.get("classes", "[]")):
        raise OptionError(
            f"the classes of the prior in {prior} have no names, and it is by these that seeds find their layouts",
            fix="run flow-prior with a classifier that has labels",
        )
    most = MAX_NUMBERS // network.flow.classes.shape[0] // network.basis.shape[1]
    if settings.layouts > most:
        raise OptionError(f"layouts must lie in 1 to {most} for so many classes, got {settings.layouts}")
    _check_out(out, Path(prior))
    photographs = read_photographs(images, out, 1, config.size, reading)
    if len(photographs) < settings.layouts:
        raise ImageError(
            f"{len(photographs)} readable images are too few for {settings.layouts} layouts",
            fix="pass more images, or a smaller --layouts",
        )
    space = WhiteCodes(network.mean, network.basis)
    cache = out / "cache" / CODES_FILE
    view = settings.view or json.loads(metadata.get("flow", "{}")).get("view", FlowSettings.view)
    settings = replace(settings, view=view, extends=digest)
    codes = read_codes(classifier, trunk, encoder, space, photographs, view, cache, digest, encoding)
    order = surest(codes.features, head, CANDIDATES * settings.layouts)
    chosen = chosen_photographs(codes.white, order, network.basis.float().square().sum(0).cpu(), settings)
    flow = CodeFlow(network.basis.shape[1], replace(network.flow.config, exemplars=settings.layouts))
    flow.load_state_dict(network.flow.state_dict() | {"layouts": layouts_of(chosen)})
    save_encoder(encoder, out)
    network = network.with_parts(flow=flow)
    added = {
        "name": out.resolve().name,
        "config": json.dumps(network.config.to_dict()),
        "layouts": json.dumps(asdict(settings)),
        "layouts_data": json.dumps(asdict(photographs.description)),
    }
    return save_generator(network, metadata | added, out)


def _check_out(out: Path, prior: Path) -> None:
    """Raises `OptionError` where `out` holds something else than an earlier result of this command."""
    file = out / FILE
    other = file.exists() and "layouts" not in read_file_metadata(file)
    if other or checkpoints(out) or out.resolve() == prior.resolve():
        raise OptionError(f"{out} holds another prior", fix="pass another --out")


def surest(features: Tensor, head: nn.Linear, count: int) -> Tensor:
    """Which photographs' `features` `[N, F]` speak most for each class against all others: `[classes, count]`, or N."""
    classes = head.out_features
    values, places = torch.empty(0, classes, dtype=torch.double), torch.empty(0, classes, dtype=torch.long)
    for start in range(0, len(features), CHUNK):
        with torch.no_grad():
            logits = head(features[start : start + CHUNK].to(head.weight)).cpu()
        told = logits.double().log_softmax(1)
        odds = told - torch.log(-torch.expm1(told))  # in logarithms, which the surest would all have at 0
        numbers = torch.arange(start, start + len(odds))[:, None].expand(-1, classes)
        values, places = torch.cat([values, odds]), torch.cat([places, numbers])
        values, best = values.topk(min(count, len(values)), dim=0)
        places = places.gather(0, best)
    return places.T


def chosen_photographs(white: Tensor, surest: Tensor, variances: Tensor, settings: LayoutSettings) -> Tensor:
    """Codes `[classes, layouts, D]`: for each class of `white` `[N, 2, D]` the first of `surest` `[classes, M]`.

    A photograph too near to one taken before is left out as long as there are others; every second is mirrored.
    """
    weights = variances / variances.mean()
    source = torch.Generator().manual_seed(0)
    some = torch.randint(len(white), (2, 1024), generator=source)
    usual = distance(white[some[0], 0].float(), white[some[1], 0].float(), weights).mean()
    classes = []
    for order in surest:
        candidates = white[order].float()
        taken: list[int] = []
        for number in range(len(order)):
            if len(taken) == settings.layouts:
                break
            before = candidates[taken].flatten(0, 1)
            near = distance(before, candidates[number, 0], weights) if taken else usual[None]
            if float(near.min()) >= settings.alike * float(usual):
                taken.append(number)
        left = [number for number in range(len(order)) if number not in taken]
        taken = (taken + left)[: settings.layouts]
        taken += [taken[0]] * (settings.layouts - len(taken))
        classes.append(candidates[taken, torch.arange(settings.layouts) % 2])
    return torch.stack(classes)


def distance(one: Tensor, other: Tensor, weights: Tensor) -> Tensor:
    """Of white codes `[..., D]`, as their spatial codes have it: `[...]`."""
    return ((one - other).square() * weights).mean(-1).sqrt()
