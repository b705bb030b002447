"""Jobs of the worker: folders, queue, states, runs and model servers. Knows no MLX."""
