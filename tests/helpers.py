"""Small tools of several tests."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

from mlx_finetuning.workspace import JobPaths


def wait_until(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.02)


def worker_process(paths: JobPaths) -> psutil.Process:
    """The job's worker; the application itself never looks for processes."""
    listed = psutil.process_iter(["cmdline"])
    return next(p for p in listed if str(paths.folder) in (p.info["cmdline"] or []))
