"""Processes that are started here: what those that compute are given, and how they end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from mlx_finetuning.utils import mac

LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""glibc reads it at a process's start only: memory in pages of 2 MB, where the system has them. It saves
a twelfth of an update."""


def computing(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that computes; what is set in it already stays."""
    own = {"darwin": mac.RELAXED_WATCHDOG, "linux": LARGE_PAGES}.get(sys.platform, {})
    return {**own, **environment}


def end(process: subprocess.Popen[Any], wait_s: float) -> None:
    """Wait for a process that was asked to leave; one that has not by then is killed."""
    try:
        process.wait(wait_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
