"""Weights in files: safetensors, MLX's packed form, stacked experts, GGUF."""
