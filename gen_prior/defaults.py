"""Defaults that the command line shares with the library; needs no torch, so help texts can print them."""

CLASSIFIER = "efficientnet-lite0"
GENERATOR = "dgn-lite0"
JUDGE = "efficientnet-lite2"
METHODS = ("dgn-lite0", "fourier", "pixel")
SEEDS = 4
EVALUATIONS = 128
OUT = "gen-prior-out"
