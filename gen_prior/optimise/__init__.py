"""From targets to images: the optimisation loop, its settings' parts, and results; imports `generators` and below."""
