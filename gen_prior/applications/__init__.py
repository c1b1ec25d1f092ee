"""Applications of the optimisation: compare, dream, invert, evolve, sample, publish; imports `report` and below."""
