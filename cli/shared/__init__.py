"""Code that several commands share: options, output, progress, folders of runs."""
