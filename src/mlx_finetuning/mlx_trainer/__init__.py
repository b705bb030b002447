"""Everything that touches MLX: loading, adapters, batches, loss, training loop, generation.

The only importer of mlx and mlx_lm. Knows nothing of workspaces' jobs, queues or source files.
"""

import os

# MLX keeps one CUDA graph per part of an update and shape of a batch, 400 of them, and raises an
# error after 800 misses; an update of 26 layers has about 60 parts.
os.environ.setdefault("MLX_CUDA_GRAPH_CACHE_SIZE", "8192")
