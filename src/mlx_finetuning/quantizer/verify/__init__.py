"""Is it the same model? Logits, tokens, weights and metadata of a file against what was trained."""
