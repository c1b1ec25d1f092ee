"""Rehearsal: codes that climb towards units while the decoder learns, so that it learns what it will be used for.

The code of a preferred input is no photograph's: the climb leaves the region that the decoder was trained on, and finds
whatever excites the classifier there. Here a pool of codes keeps climbing on the decoder as it is at each step; the
critics judge their images beside the photographs, and the decoder is asked to convince both them and the classifier.
The pool persists between steps (as the chains of Tieleman 2008 do), so a whole climb costs one gradient a step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gen_prior.classifiers import Classifier
from gen_prior.classifiers.hooks import LOGITS
from gen_prior.generators.dgn.generator import RECIPE
from gen_prior.generators.dgn.network import DETAIL_DEVIATION, WhiteCodes
from gen_prior.optimise.transforms import build_transform

POOL = 64
LIFETIME = 48
"""Climbs of a code, after which another takes its place."""
RATE = 0.2
"""Root mean square of a climb's step over the code's units, in the deviations of photographs' codes."""
RADIUS = (1.0, 1.6)
"""Each code keeps its distance from the mean, drawn from this range, in the root mean square over its units."""
DETAIL_RATE, DETAIL_RADIUS, MOST_DETAIL = 0.06, (0.5, 1.0), 1.2
"""Details climb more slowly from a distance in this range, and are kept within the last."""
RADII = (RADIUS, DETAIL_RADIUS)
VIEW = RECIPE.transforms[0]
"""What the classifier looks through, as in the recipe that the prior will be used with."""


class Rehearsal(nn.Module):
    """A pool of white codes `[P, D]`, each climbing towards the logit of a class drawn at random."""

    codes: Tensor
    units: Tensor
    ages: Tensor

    def __init__(self, classifier: Classifier, space: WhiteCodes, count: int, seed: int) -> None:
        """`count` codes of `space`, whose classes are the classifier's if it knows any, climb at each step."""
        super().__init__()
        self.classifier, self.count = classifier, count
        self.space = space.requires_grad_(False)
        self.classes = classifier.layer_shape(LOGITS)[0]
        self.view = build_transform(*VIEW)
        source = torch.Generator().manual_seed(seed)
        pool = -(-POOL // count) * count
        codes, units = self._fresh(pool, source)
        self.register_buffer("codes", codes)
        self.register_buffer("units", units)
        self.register_buffer("ages", torch.randint(LIFETIME, (pool,), generator=source))
        self.to(classifier.device)

    def _fresh(self, count: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
        """Random classes `[count]`, and codes `[count, D]` to begin with for them."""
        noise = torch.randn(count, self.space.numbers, generator=source)
        radius, size = (low + (high - low) * torch.rand(count, 1, generator=source) for low, high in RADII)
        units = torch.randint(self.classes, (count,), generator=source)
        device = self.space.mean.device
        coarse, details = self.space.natural(units.to(device), noise.to(device))
        coarse = coarse / length(coarse) * radius.to(device)
        return torch.cat([coarse, details * size.to(device)], 1), units

    def draw(self, step: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
        """The codes whose turn it is, `[count, D]`, to be differentiated in; the same as spatial codes."""
        turn = self._turn(step)
        codes, units = self._fresh(self.count, source)
        spent = self.ages[turn] >= LIFETIME
        self.codes[turn] = torch.where(spent[:, None], codes.to(self.codes), self.codes[turn])
        self.units[turn] = torch.where(spent, units.to(self.units), self.units[turn])
        self.ages[turn] = torch.where(spent, 0, self.ages[turn])
        white = self.codes[turn].requires_grad_()
        return white, self.space.spatial(white)

    def climb(self, step: int, white: Tensor, images: Tensor, source: torch.Generator) -> Tensor:
        """One step up for the codes of `draw`, whose images `[count, 3, S, S]` are; returns the decoder's loss.

        That loss has the gradient of each unit's activation, times how far its probability is from 1.
        """
        turn = self._turn(step)
        shown = images.clamp(0, 1)  # as a generator shows it: nothing is gained beyond black and white
        seen = shown.detach().requires_grad_()
        draws = torch.rand(self.count, self.view.count, generator=source).to(seen.device)
        viewed = self.view.apply(self.classifier.resize(seen), draws)
        inputs = self.classifier.normalise(viewed).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.classifier.network(inputs).float()
        units = self.units[turn][:, None]
        rise = torch.autograd.grad(logits.gather(1, units).sum(), seen)[0]
        missing = 1 - logits.detach().softmax(1).gather(1, units)[:, 0]
        direction = torch.autograd.grad(shown, white, rise, retain_graph=True)[0]
        with torch.no_grad():
            (coarse, details), (upward, detail_upward) = self.space.parts(white), self.space.parts(direction)
            moved = coarse + RATE * upward / length(upward)
            moved = moved * (coarse.norm(dim=1, keepdim=True) / moved.norm(dim=1, keepdim=True))
            details = details + DETAIL_RATE * DETAIL_DEVIATION * detail_upward / length(detail_upward)
            details = details * (MOST_DETAIL * DETAIL_DEVIATION / length(details)).clamp(max=1)
            self.codes[turn] = torch.cat([moved, details], 1)
            self.ages[turn] += 1
        # The constant makes the number readable: it is the mean shortfall of the probability.
        surrogate = -(missing * (shown * rise).flatten(1).sum(1)).mean()
        return surrogate + (missing.mean() - surrogate).detach()

    def _turn(self, step: int) -> Tensor:
        return (torch.arange(self.count, device=self.codes.device) + step * self.count) % len(self.codes)


def length(codes: Tensor) -> Tensor:
    """Root mean square of each code's numbers, `[B, 1]`, never 0."""
    return codes.square().mean(1, keepdim=True).sqrt().clamp_min(1e-12)
