"""The stages of a prior's training, each with its settings, trainer and entry point; imports `training`."""
