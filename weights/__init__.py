"""Data of the package: the embedded generator prior and tables of statistics, with the scripts that made them."""
