"""Memory of a GPU that has its own, as MLX and its driver see it.

MLX counts the arrays that are in use and the freed ones that it keeps for the next; the driver counts
what it has given to all programs. On the CPU and on Metal arrays lie in the machine's memory.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from mlx_finetuning.utils.memory_monitor import Memory

KEPT = 0.125
"""With more freed arrays no update was faster, with all of them a run held twice what it used."""


def read() -> Memory | None:
    """Of the card that MLX computes on, now; None where arrays lie in the machine's memory."""
    info: dict[str, Any] = mx.device_info()
    # MLX's names of them with CUDA; Metal has others, the CPU none.
    total, free = info.get("total_memory"), info.get("free_memory")
    if mx.default_device() == mx.cpu or total is None or free is None:
        return None
    return Memory(int(total), int(free))


def allowed(card: Memory) -> int:
    """Bytes that this process may hold in all, with what it holds already."""
    return card.usable + mx.get_active_memory() + mx.get_cache_memory()


def hold_to(limit: int, needed: int) -> None:
    """Keep arrays in use and freed ones to `limit` bytes together, as long as the first allow it, and
    of freed ones a share of the `needed` bytes that a run takes at most.

    By itself MLX keeps freed arrays until the card is full.
    """
    mx.set_memory_limit(limit)
    mx.set_cache_limit(round(KEPT * needed))
