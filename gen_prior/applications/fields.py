"""Receptive and effective fields of units, at any position of their layers."""

from __future__ import annotations

import numpy as np

from gen_prior.classifiers.base import Classifier
from gen_prior.objectives.receptive_field import Box, ReceptiveFields
from gen_prior.objectives.targets import Target
from gen_prior.objectives.units import activation
from gen_prior.optimise.unit_scale import field_of


class Fields:
    """Receptive and effective fields of targets at the positions where photographs excite them."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier, self.receptive_fields = classifier, ReceptiveFields(classifier)
        height, width = classifier.input_size
        self.whole = Box(0, 0, height, width, height, width)

    def placed(self, target: Target | None, flat: int) -> Target | None:
        """The target at the flat position `flat` of its layer; -1 for its own."""
        if target is None or flat < 0:
            return target
        sides = self.classifier.layout(target.layer).sides
        return target.with_position(tuple(int(axis) for axis in np.unravel_index(flat, sides)))

    def receptive(self, target: Target | None) -> Box:
        """The receptive field; the whole input for an objective."""
        return self.whole if target is None else self.receptive_fields.of(target)

    def effective(self, target: Target | None) -> Box:
        """The square of the effective field at the layer's centre, moved to the target's position, within the input."""
        if target is None or not isinstance(target.position, tuple) or len(target.position) != 2:
            return self.whole
        layout = self.classifier.layout(target.layer)
        sides, centre = layout.sides, layout.centre
        field = field_of(self.classifier, activation(target.with_position(centre)), "unit")
        if field is None:
            return self.whole
        height, width = self.classifier.input_size
        side = min(field.side, height, width)
        top = field.top + round((target.position[0] - centre[0]) * height / sides[0])
        left = field.left + round((target.position[1] - centre[1]) * width / sides[1])
        top, left = min(max(top, 0), height - side), min(max(left, 0), width - side)
        return Box(top, left, top + side, left + side, height, width)
