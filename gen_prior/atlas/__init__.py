"""Atlases: every unit of some layers, in resumable shards, in one folder; imports `applications` and below."""
