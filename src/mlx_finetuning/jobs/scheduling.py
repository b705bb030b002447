"""How the system's scheduler treats this process."""

from __future__ import annotations

import contextlib
import os
import sys


def as_batch_work() -> None:
    """Let this process, its later threads and children compute rather than react, on Linux.

    MLX hands every operation from one thread to another. A thread that is woken does not interrupt
    the one that woke it here, so that operations are handed over several at a time. Programs that
    people wait for come first. Call before anything imports MLX, which starts the threads.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # some containers forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
