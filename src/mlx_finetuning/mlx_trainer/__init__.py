"""Everything that touches MLX: loading, adapters, batches, loss, our own training loop, generation.

The importer of mlx and mlx_lm, beside tasks that handle arrays. Knows nothing of workspaces' jobs,
queues or source files. The engines `mlx-lm` and `simulation`, which need none of it, are `trainer`.
"""

import os
import sys

from mlx_finetuning.utils import mlx_lm_import

mlx_lm_import.spare()
# MLX keeps one CUDA graph per part of a pass and shape of a batch, 400 of them, and raises an
# error after 800 misses.
os.environ.setdefault("MLX_CUDA_GRAPH_CACHE_SIZE", "8192")
if sys.platform == "linux":
    # Depth first: by its own order MLX computes the gradients of all factors last, and keeps what
    # they are computed from until then.
    os.environ.setdefault("MLX_BFS_MAX_WIDTH", "1")


def for_training() -> None:
    """Let MLX launch on a CUDA GPU what training wants. To be called before MLX is imported.

    Answers come a quarter faster with MLX's own settings.
    """
    if sys.platform != "linux":  # Metal reads one of these too, and has its own size
        return
    # The host is the limit. Into a CUDA graph a matrix product comes by way of a capture, which
    # takes the host longer than to start it.
    os.environ.setdefault("MLX_USE_CUDA_GRAPHS", "0")
    # What a part of an update no longer needs is freed when the GPU is done with that part.
    os.environ.setdefault("MLX_MAX_OPS_PER_BUFFER", "20")
