"""Defaults shared by the library and the command line; imports no torch, so that help texts can print them."""

CLASSIFIER = "efficientnet-lite0"
GENERATOR = "dgn-lite0"
JUDGE = "efficientnet-lite2"
METHODS = ("dgn-lite0", "fourier", "pixel")
SEEDS = 4
EVALUATIONS = 128
OUT = "gen-prior-out"
