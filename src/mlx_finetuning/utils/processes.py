"""Ending processes that were started here."""

from __future__ import annotations

import subprocess
from typing import Any


def end(process: subprocess.Popen[Any], wait_s: float) -> None:
    """Wait for a process that was asked to leave; one that has not by then is killed."""
    try:
        process.wait(wait_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
