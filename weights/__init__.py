"""The embedded weights and the registry of everything that can be loaded by name."""
