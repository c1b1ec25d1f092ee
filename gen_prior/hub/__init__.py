"""Model files: the Hugging Face Hub and its cache, safe tensor files, conversion, provenance; imports `util`."""
