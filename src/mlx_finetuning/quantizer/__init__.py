"""Writes GGUF files and verifies them, on NumPy, gguf and llama.cpp's library. Knows no MLX."""
