"""Small tools of several tests."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes within the block, as on a disk that is full.

    Keep the block short: the limit holds for pytest's own output too.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
