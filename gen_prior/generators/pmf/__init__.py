"""Pixel mean flows (Lu et al. 2026): file format, network, generator."""
