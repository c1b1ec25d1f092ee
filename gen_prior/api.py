"""The public names, all of them: what `import gen_prior` offers. To publish a name, import it and list it here."""

from gen_prior.classifiers import Classifier, load_classifier
from gen_prior.comparison import Comparison, compare, load_comparison
from gen_prior.errors import GenPriorError
from gen_prior.generators import CodePrior, Generator, load_generator
from gen_prior.objectives import Objective
from gen_prior.presets import PRESETS, preset, preset_generator
from gen_prior.recipes import Recipe
from gen_prior.results import Result, load_result
from gen_prior.synthesis import synthesize
from gen_prior.targets import Target, parse_target

__all__ = [
    "PRESETS",
    "Classifier",
    "CodePrior",
    "Comparison",
    "GenPriorError",
    "Generator",
    "Objective",
    "Recipe",
    "Result",
    "Target",
    "compare",
    "load_classifier",
    "load_comparison",
    "load_generator",
    "load_result",
    "parse_target",
    "preset",
    "preset_generator",
    "synthesize",
]
