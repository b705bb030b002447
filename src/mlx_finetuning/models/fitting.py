"""Whether a model of the catalogue can be trained on this machine, before anything is downloaded.

By the catalogue's figures; what a run really takes is measured once the model is there.
"""

from __future__ import annotations

import sys
from typing import Literal

from mlx_finetuning.models.entries import CatalogueEntry
from mlx_finetuning.utils import nvidia
from mlx_finetuning.utils.memory_monitor import LEFT_TO_OTHERS, read_memory

MachineFit = Literal["fits", "fits_4bit", "too_large"]
_GIB = 1 << 30


def fit(
    entry: CatalogueEntry, memory: int | None = None, platform: str = sys.platform
) -> MachineFit:
    """Whether it can be trained, only its 4-bit twin, or neither.

    memory: bytes of a machine that computes on its CPU or with Metal, by default this one's, or those
    of the card that MLX computes on.
    """
    card = nvidia.of_mlx() if memory is None and platform == "linux" else None
    limit_gb = (capacity(platform) if memory is None else usable(memory, platform)) / 1e9
    if needed_gb(entry, on_cpu=not card and platform != "darwin") <= limit_gb:
        return "fits"
    if entry.mlx_4bit and entry.mlx_4bit.memory_gb <= limit_gb:
        return "fits_4bit"
    return "too_large"


def needed_gb(entry: CatalogueEntry, *, on_cpu: bool | None = None) -> float:
    """What training it takes from the memory that is computed in; on_cpu: by default whether this
    machine has neither Metal nor a card."""
    if on_cpu is None:
        on_cpu = sys.platform != "darwin" and not nvidia.of_mlx()
    # On the CPU weights of 16 bits become float32; packed ones stay.
    return entry.memory_gb + (entry.size_gb if on_cpu else 0.0)


def capacity(platform: str = sys.platform) -> int:
    """Bytes that a run may take here: of this machine, or of the card that MLX computes on."""
    card = nvidia.of_mlx() if platform == "linux" else None
    return usable((card.memory if card else read_memory()).total, platform)


def usable(memory: int, platform: str = sys.platform) -> int:
    """Bytes that a run may take of a machine with nothing else in it.

    Metal recommends two thirds of the memory as working set, three quarters beyond 32 GiB: read off
    llama.cpp's logs (22,906 MB of 32 GiB, 51,539 MB of 64 GiB); `iogpu.wired_limit_mb` changes it.
    """
    if platform != "darwin":
        return int((1 - LEFT_TO_OTHERS) * memory)
    return memory * 2 // 3 if memory <= 32 * _GIB else memory * 3 // 4
