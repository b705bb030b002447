"""How much memory the machine has and has left, with the limits of a container respected."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

_LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


@dataclass(frozen=True)
class Memory:
    total: int
    """Bytes."""
    available: int
    """Bytes that can be used without swapping."""


def read_memory() -> Memory:
    """Memory of this machine, or of the container this process is confined to."""
    import psutil

    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    for limit_file, used_file in _LIMITS:
        limit, used = _number(limit_file), _number(used_file)
        if limit is not None and used is not None and limit < total:
            return Memory(limit, min(available, max(limit - used, 0)))
    return Memory(total, available)


def _number(path: Path) -> int | None:
    """The number in a control file; `max`, no limit, is None."""
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text(encoding="ascii"))
    return None
