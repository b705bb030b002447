"""One entry per model family: how its folder maps to GGUF."""
