"""A process that was asked to leave is gone afterwards, whether it heeds or not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mlx_finetuning.utils import processes


@pytest.mark.parametrize(("code", "status"), [("pass", 0), ("import time; time.sleep(60)", -9)])
def test_process_is_gone_after_its_end(code: str, status: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", code])
    processes.end(process, 5 if status == 0 else 0.5)
    assert process.returncode == status
