"""The public names, all of them: what `import gen_prior` offers. To publish a name, import it and list it here."""

from gen_prior import objectives, regularisers, transforms
from gen_prior.classifiers import Classifier, load_classifier
from gen_prior.comparison import Comparison, compare, load_comparison
from gen_prior.datasets import make_dataset
from gen_prior.dreaming import dream, dream_frames, dream_through
from gen_prior.errors import GenPriorError
from gen_prior.evolution import Evolution, evolve
from gen_prior.exemplars import Exemplar, find_exemplars
from gen_prior.fitting import encode, fit_code
from gen_prior.generators import CodePrior, Generator, load_generator
from gen_prior.inversion import Inversion, invert
from gen_prior.objectives import Objective
from gen_prior.presets import PRESETS, preset, preset_generator
from gen_prior.receptive_fields import receptive_field
from gen_prior.recipes import Recipe
from gen_prior.results import Result, load_result
from gen_prior.sampling import sample_chain, synthesize_apart
from gen_prior.synthesis import synthesize
from gen_prior.targets import Target, parse_target
from gen_prior.trajectories import Recorder, write_animation
from gen_prior.transparency import Transparency

__all__ = [
    "PRESETS",
    "Classifier",
    "CodePrior",
    "Comparison",
    "Evolution",
    "Exemplar",
    "GenPriorError",
    "Generator",
    "Inversion",
    "Objective",
    "Recipe",
    "Recorder",
    "Result",
    "Target",
    "Transparency",
    "compare",
    "dream",
    "dream_frames",
    "dream_through",
    "encode",
    "evolve",
    "find_exemplars",
    "fit_code",
    "invert",
    "load_classifier",
    "load_comparison",
    "load_generator",
    "load_result",
    "make_dataset",
    "objectives",
    "parse_target",
    "preset",
    "preset_generator",
    "receptive_field",
    "regularisers",
    "sample_chain",
    "synthesize",
    "synthesize_apart",
    "transforms",
    "write_animation",
]
