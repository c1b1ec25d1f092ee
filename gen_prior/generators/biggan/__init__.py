"""BigGAN-deep (Brock et al. 2019): file format, network, generator."""
