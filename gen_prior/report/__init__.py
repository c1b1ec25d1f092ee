"""Metrics, sheets, films and cards of finished images; imports `optimise` and below."""
