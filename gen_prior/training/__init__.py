"""Training of a prior on photographs; imports `applications` and below."""
