"""All public names, as `import gen_prior` offers them. To publish a name, import it and list it here."""

from gen_prior import objectives
from gen_prior.applications.accentuate import Accentuation, accentuate
from gen_prior.applications.benchmark import benchmark
from gen_prior.applications.chain import Chain
from gen_prior.applications.compare import Comparison, compare, load_comparison
from gen_prior.applications.dataset import make_dataset
from gen_prior.applications.dream import dream, dream_frames, dream_through
from gen_prior.applications.encode import encode, fit_code
from gen_prior.applications.evolve import Evolution, evolve
from gen_prior.applications.exemplars import Exemplar, Exemplars, find_exemplars
from gen_prior.applications.experiment import Experiment
from gen_prior.applications.faithfulness import faithfulness
from gen_prior.applications.feature_distribution import match_photographs
from gen_prior.applications.invert import Inversion, invert
from gen_prior.applications.morph import Morph, interpolate, morph
from gen_prior.applications.sample import sample_chain, synthesize_apart
from gen_prior.atlas.activation_map import ActivationMap, make_activation_map
from gen_prior.atlas.atlas import make_atlas
from gen_prior.atlas.hub_export import export_atlas
from gen_prior.atlas.pages import build_pages
from gen_prior.atlas.reader import Atlas, load_atlas
from gen_prior.classifiers import Classifier, load_classifier
from gen_prior.errors import GenPriorError
from gen_prior.generators import CodePrior, Generator, load_generator
from gen_prior.objectives import Objective
from gen_prior.objectives.dictionary import Dictionary
from gen_prior.objectives.dictionary_formats import load_dictionary
from gen_prior.objectives.expressions import parse_targets
from gen_prior.objectives.mixes import Mix
from gen_prior.objectives.natural_statistics import NaturalStatistics
from gen_prior.objectives.receptive_field import receptive_field
from gen_prior.objectives.targets import Target, parse_target
from gen_prior.optimise import edits, regularisers, transforms
from gen_prior.optimise.load_result import load_result
from gen_prior.optimise.presets import PRESETS, preset, preset_generator
from gen_prior.optimise.result import Result
from gen_prior.optimise.result_item import ResultItem
from gen_prior.optimise.synthesize import synthesize
from gen_prior.recipe import Recipe
from gen_prior.report.film import Recorder, write_animation
from gen_prior.report.pages.gallery import gallery
from gen_prior.report.transparency import Transparency
from gen_prior.util.progress import Progress

__all__ = [
    "PRESETS",
    "Accentuation",
    "ActivationMap",
    "Atlas",
    "Chain",
    "Classifier",
    "CodePrior",
    "Comparison",
    "Dictionary",
    "Evolution",
    "Exemplar",
    "Exemplars",
    "Experiment",
    "GenPriorError",
    "Generator",
    "Inversion",
    "Mix",
    "Morph",
    "NaturalStatistics",
    "Objective",
    "Progress",
    "Recipe",
    "Recorder",
    "Result",
    "ResultItem",
    "Target",
    "Transparency",
    "accentuate",
    "benchmark",
    "build_pages",
    "compare",
    "dream",
    "dream_frames",
    "dream_through",
    "edits",
    "encode",
    "evolve",
    "export_atlas",
    "faithfulness",
    "find_exemplars",
    "fit_code",
    "gallery",
    "interpolate",
    "invert",
    "load_atlas",
    "load_classifier",
    "load_comparison",
    "load_dictionary",
    "load_generator",
    "load_result",
    "make_activation_map",
    "make_atlas",
    "make_dataset",
    "match_photographs",
    "morph",
    "objectives",
    "parse_target",
    "parse_targets",
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
