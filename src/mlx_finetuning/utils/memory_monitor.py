"""How much memory the machine has and has left, and how much processes take of it.

Limits of a container are respected. Readings are of the moment, but for `peak_memory`; memory of a
GPU that has its own is not seen here.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

LEFT_TO_OTHERS = 0.05
"""Share of the machine's memory that a run without a limit of its own leaves free."""

_LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


@dataclass(frozen=True)
class Memory:
    """Of the machine or the container."""

    total: int
    """Bytes."""
    available: int
    """Bytes that can be used without swapping."""

    @property
    def usable(self) -> int:
        """Bytes a run may still take so that the rest of the machine goes on working."""
        return max(0, self.available - int(LEFT_TO_OTHERS * self.total))


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


def used_memory(process: int | None = None) -> int:
    """Bytes of memory a process (this one by default) holds now; 0 if it has ended."""
    import psutil

    try:
        return int(psutil.Process(process).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def peak_memory(process: int | None = None) -> int:
    """Most bytes a process (this one by default) has held so far; 0 if it has ended.

    For another process on macOS, which keeps no such figure, what it holds now.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{process or os.getpid()}/status").read_text(encoding="ascii")
            for line in status.splitlines():
                if line.startswith("VmHWM:"):
                    return 1024 * int(line.split()[1])
        return 0
    if process is None:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used_memory(process)


def _number(path: Path) -> int | None:
    """The number in a control file; `max`, no limit, is None."""
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text(encoding="ascii"))
    return None
