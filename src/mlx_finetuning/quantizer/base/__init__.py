"""A GGUF file as a base model: its metadata as the files of a Hugging Face folder."""
