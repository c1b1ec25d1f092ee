"""Training a generator prior for any classifier from any folder of images (`gen-prior train-prior`)."""
