"""Code that families of generators share: checks of options, sizes, codes of parts, statistics of photographs."""
