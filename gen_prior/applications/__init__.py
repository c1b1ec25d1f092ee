"""What users do with the loop: compare, dream, invert, evolve, sample, publish; imports `report` and below."""
