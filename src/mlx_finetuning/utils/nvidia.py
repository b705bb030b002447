"""NVIDIA cards as their driver's library NVML sees them: names and memory, all programs together.

Takes nothing of a card and loads no CUDA. Without a driver there are no cards.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from dataclasses import dataclass

from mlx_finetuning.utils.memory_monitor import Memory

LIBRARY = "libnvidia-ml.so.1"
BACKENDS = ("mlx-cuda-13", "mlx-cuda-12")
"""Packages with which MLX computes on such a card."""
_NAME_BYTES = 96


@dataclass(frozen=True)
class Card:
    """One card."""

    name: str
    memory: Memory


class _MemoryInfo(ctypes.Structure):
    """NVML's `nvmlMemory_t`."""

    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


def cards(library: str = LIBRARY) -> tuple[Card, ...]:
    """All cards of the machine, in the driver's order."""
    with contextlib.suppress(OSError, AttributeError):  # no driver, or one of another age
        nvml = ctypes.CDLL(library)
        if nvml.nvmlInit_v2() == 0:
            try:
                return tuple(_found(nvml))
            finally:
                nvml.nvmlShutdown()
    return ()


def of_mlx() -> Card | None:
    """The card that MLX computes on; None without one, or without its CUDA backend."""
    # Late: it takes longer than all else that a job's start imports here.
    from importlib import metadata

    for package in BACKENDS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            metadata.version(package)
            return next(iter(cards()), None)
    return None


def _found(nvml: ctypes.CDLL) -> Iterator[Card]:
    count = ctypes.c_uint()
    nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    for index in range(count.value):
        device, memory = ctypes.c_void_p(), _MemoryInfo()
        name = ctypes.create_string_buffer(_NAME_BYTES)
        results = (
            nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)),
            nvml.nvmlDeviceGetName(device, name, _NAME_BYTES),
            nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)),
        )
        if not any(results):
            yield Card(name.value.decode(errors="replace"), Memory(memory.total, memory.free))
