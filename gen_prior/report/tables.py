"""Names of `util.tables`, for what writes reports."""

from __future__ import annotations

from gen_prior.util.tables import Columns, Row, write_csv, write_parquet, write_tables

__all__ = ["Columns", "Row", "write_csv", "write_parquet", "write_tables"]
