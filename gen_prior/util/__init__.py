"""Helpers that know no network: devices, random streams, registries, image files, resampling; imports `errors` only."""
