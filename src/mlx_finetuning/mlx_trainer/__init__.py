"""Everything that touches MLX: loading, adapters, batches, loss, training loop, generation.

The only importer of mlx and mlx_lm. Knows nothing of workspaces' jobs, queues or source files.
"""
