"""Adversarial flow models (Lin et al. 2025): network, generator."""
