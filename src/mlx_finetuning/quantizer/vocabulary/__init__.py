"""Tokenizers as GGUF metadata."""
