"""`python -m gen_prior`: the command line, where the command `gen-prior` is not on the path."""

from __future__ import annotations

from gen_prior.cli import main

if __name__ == "__main__":
    main()
