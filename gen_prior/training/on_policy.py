"""On-policy activation maximisation: the decoder trains on codes that are being optimised through it.

The code of a preferred input is no photograph's code: optimisation leaves the region that the decoder was trained on
and finds whatever excites the classifier there. So a pool of codes is optimised through the decoder as it is at each
step; the critics judge these codes' images beside photographs, and the decoder is trained to convince the critics and
the classifier. The pool persists between steps (as the chains of Tieleman 2008, "Training restricted Boltzmann machines
using approximations to the likelihood gradient", do), so a whole optimisation costs one gradient per training step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gen_prior.classifiers import Classifier
from gen_prior.generators.dgn.generator import RECIPE
from gen_prior.generators.dgn.network import DETAIL_STD, WhitenedCodes
from gen_prior.optimise.transforms import build_transform

POOL = 64
"""Least number of codes in the pool."""
LIFETIME = 48
"""Ascent steps of a code, after which a new one replaces it."""
RATE = 0.2
"""RMS over the code of one ascent step, in stds of photographs' codes."""
RADIUS = (1.0, 1.6)
"""Range of a code's RMS, which is drawn once and kept."""
DETAIL_RATE, DETAIL_RADIUS, MOST_DETAIL = 0.06, (0.5, 1.0), 1.2
"""The same for the fine part of the code: step, range of the first RMS, greatest RMS."""
RADII = (RADIUS, DETAIL_RADIUS)
VIEW = RECIPE.transforms[0]
"""Random transform before the classifier, as in the recipe that the prior is used with."""


class OnPolicyCodes(nn.Module):
    """A pool of codes `[P, D]`, each optimised for the logit of a random class."""

    codes: Tensor
    units: Tensor
    ages: Tensor

    def __init__(self, classifier: Classifier, space: WhitenedCodes, count: int, seed: int) -> None:
        """`count` codes of `space` take an ascent step in each training step."""
        super().__init__()
        self.classifier, self.count = classifier, count
        self.space = space.requires_grad_(False)
        self.classes = classifier.classes
        self.view = build_transform(*VIEW)
        source = torch.Generator().manual_seed(seed)
        pool = -(-POOL // count) * count
        codes, units = self._new_codes(pool, source)
        self.register_buffer("codes", codes)
        self.register_buffer("units", units)
        self.register_buffer("ages", torch.randint(LIFETIME, (pool,), generator=source))
        self.to(classifier.device)

    def _new_codes(self, count: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
        """Initial codes `[count, D]` for random classes `[count]`, and these classes."""
        noise = torch.randn(count, self.space.dims, generator=source)
        radius, size = (low + (high - low) * torch.rand(count, 1, generator=source) for low, high in RADII)
        units = torch.randint(self.classes, (count,), generator=source)
        device = self.space.mean.device
        coarse, details = self.space.sample(units.to(device), noise.to(device))
        coarse = coarse / rms(coarse) * radius.to(device)
        return torch.cat([coarse, details * size.to(device)], 1), units

    def draw(self, step: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
        """The step's codes `[count, D]`, which require gradients, and their spatial codes; old ones are replaced."""
        turn = self._turn(step)
        codes, units = self._new_codes(self.count, source)
        spent = self.ages[turn] >= LIFETIME
        self.codes[turn] = torch.where(spent[:, None], codes.to(self.codes), self.codes[turn])
        self.units[turn] = torch.where(spent, units.to(self.units), self.units[turn])
        self.ages[turn] = torch.where(spent, 0, self.ages[turn])
        white = self.codes[turn].requires_grad_()
        return white, self.space.spatial(white)

    def ascend(self, step: int, white: Tensor, images: Tensor, source: torch.Generator) -> Tensor:
        """Move the codes of `draw`, whose images `[count, 3, S, S]` are, one step up; return the decoder's loss.

        The loss has the gradient of each logit times (its probability - 1), and the mean of (1 - probability) as value.
        """
        turn = self._turn(step)
        shown = images.clamp(0, 1)  # as a generator shows it: nothing is gained beyond black and white
        # Gradient of each code's logit in its image, through the transform.
        seen = shown.detach().requires_grad_()
        draws = torch.rand(self.count, self.view.count, generator=source).to(seen.device)
        viewed = self.view.apply(self.classifier.resize(seen), draws)
        inputs = self.classifier.normalise(viewed).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.classifier.network(inputs).float()
        units = self.units[turn][:, None]
        rise = torch.autograd.grad(logits.gather(1, units).sum(), seen)[0]
        missing = 1 - logits.detach().softmax(1).gather(1, units)[:, 0]
        # The same in the code; one normalised ascent step.
        direction = torch.autograd.grad(shown, white, rise, retain_graph=True)[0]
        self.codes[turn] = self._moved(white.detach(), direction)
        self.ages[turn] += 1
        # The decoder's loss.
        surrogate = -(missing * (shown * rise).flatten(1).sum(1)).mean()
        return surrogate + (missing.mean() - surrogate).detach()

    def _moved(self, white: Tensor, direction: Tensor) -> Tensor:
        """Codes after a step of fixed length along `direction`; the coarse part keeps its norm."""
        (coarse, details), (upward, detail_upward) = self.space.split(white), self.space.split(direction)
        moved = coarse + RATE * upward / rms(upward)
        moved = moved * (coarse.norm(dim=1, keepdim=True) / moved.norm(dim=1, keepdim=True))
        details = details + DETAIL_RATE * DETAIL_STD * detail_upward / rms(detail_upward)
        details = details * (MOST_DETAIL * DETAIL_STD / rms(details)).clamp(max=1)
        return torch.cat([moved, details], 1)

    def _turn(self, step: int) -> Tensor:
        """Indices of the codes that the training step moves, `[count]`."""
        return (torch.arange(self.count, device=self.codes.device) + step * self.count) % len(self.codes)


def rms(codes: Tensor) -> Tensor:
    """Root mean square of each code, `[B, 1]`, never 0."""
    return codes.square().mean(1, keepdim=True).sqrt().clamp_min(1e-12)
