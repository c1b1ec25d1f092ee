"""`layout_prior`: a prior with a flow learns by heart some photographs' codes for each class to begin with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators.code_flow import CodeFlow, layouts_of
from gen_prior.generators.dgn_network import WhiteCodes
from gen_prior.training.codes import head_of, read_codes
from gen_prior.training.conduct import read_photographs
from gen_prior.training.export import save_encoder, save_generator
from gen_prior.training.flow_command import CODES_FILE
from gen_prior.training.images import Count, check_source
from gen_prior.training.priors import open_prior

MOST = 256


@dataclass(frozen=True)
class LayoutSettings:
    """Everything but the data, the classifier and the prior that layouts are a function of."""

    layouts: int = 8
    """Photographs for each class."""
    alike: float = 0.7
    """Least distance of two of them, in parts of the mean distance of photographs of different classes."""
    view: int = 192
    """Side at which the classifier sees the photographs."""
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
    (`gen_prior.generators.code_flow.begun`), which the seed chooses. After Nguyen et al. 2016, arXiv 1602.03616, who
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
            flow.
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
    photographs = read_photographs(images, out, settings.layouts, config.size, reading)
    space = WhiteCodes(network.mean, network.basis)
    cache = out / "cache" / CODES_FILE
    codes = read_codes(classifier, trunk, encoder, space, photographs, settings.view, cache, digest, encoding)
    with torch.no_grad():
        weight, bias = head.weight.float().cpu(), head.bias.float().cpu() if head.bias is not None else None
        sure = torch.nn.functional.linear(codes.features.float(), weight, bias).log_softmax(1)
    chosen = chosen_photographs(codes.white, sure, network.basis.float().square().sum(0).cpu(), settings)
    flow = CodeFlow(network.basis.shape[1], network.flow.config._replace(layouts=settings.layouts))
    flow.load_state_dict(network.flow.state_dict() | {"layouts": layouts_of(chosen)})
    network.flow = flow
    save_encoder(encoder, out)
    described = json.loads(metadata["config"]) | {"flow": flow.config._asdict()}
    added = {
        "name": out.resolve().name,
        "config": json.dumps(described),
        "layouts": json.dumps(asdict(settings) | {"extends": digest}),
        "layouts_data": json.dumps(asdict(photographs.description)),
    }
    return save_generator(network, metadata | added, out)


def chosen_photographs(white: Tensor, sure: Tensor, variances: Tensor, settings: LayoutSettings) -> Tensor:
    """Codes `[classes, layouts, D]`: of `white` `[N, 2, D]` those with the largest `sure` `[N, classes]`.

    A photograph too near to one taken before is left out as long as there are others; every second is mirrored.
    """
    weights = variances / variances.mean()
    source = torch.Generator().manual_seed(0)
    some = torch.randint(len(white), (2, 1024), generator=source)
    usual = distance(white[some[0], 0].float(), white[some[1], 0].float(), weights).mean()
    classes = []
    for column in sure.T:
        order = column.topk(min(len(column), 8 * settings.layouts)).indices
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
