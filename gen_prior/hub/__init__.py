"""Weight files from the Hugging Face Hub or a folder, checked and made safetensors; imports `util` and below."""
