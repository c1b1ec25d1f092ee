"""What several families of generators use: checks of options, sizes, codes of parts, statistics of photographs."""
