"""What several commands use: options, output, progress, folders of runs."""
