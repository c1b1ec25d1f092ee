"""Autoencoders and consistency models of the diffusers format."""
