"""Loaded models and their parts: tokenizer, head, adapters, what of them is trained."""
