"""TiTok (Yu et al. 2024): file format and network, generator."""
