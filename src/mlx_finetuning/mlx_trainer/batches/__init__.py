"""Dataset rows to examples, examples to batches of arrays."""
