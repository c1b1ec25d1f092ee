"""DeePSim (Dosovitskiy & Brox 2016): network and generator."""
