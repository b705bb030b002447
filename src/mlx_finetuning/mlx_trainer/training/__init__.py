"""The training loop and what surrounds it: memory, estimate, checkpoints, self-checks."""
