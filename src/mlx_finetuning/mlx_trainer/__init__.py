"""Everything that touches MLX: loading, adapters, batches, loss, training loop, generation.

The only importer of mlx and mlx_lm. Knows nothing of workspaces' jobs, queues or source files.
"""

import os
import sys

# MLX keeps one CUDA graph per part of an update and shape of a batch, 400 of them, and raises an
# error after 800 misses; an update of 26 layers has about 60 parts.
os.environ.setdefault("MLX_CUDA_GRAPH_CACHE_SIZE", "8192")
# What a part of an update no longer needs is freed when the GPU is done with it. With its own larger
# parts MLX runs so far ahead that a fifth of its memory is such leavings; these are as fast.
# Metal, which reads these too, has its own sizes.
if sys.platform == "linux":
    # Depth first: by its own order MLX computes the gradients of all factors last, and keeps what
    # they are computed from until then.
    os.environ.setdefault("MLX_BFS_MAX_WIDTH", "1")
    os.environ.setdefault("MLX_MAX_OPS_PER_BUFFER", "50")
    os.environ.setdefault("MLX_MAX_MB_PER_BUFFER", "400")
