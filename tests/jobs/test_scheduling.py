from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's scheduler")
def test_batch_work_holds_for_later_threads_and_children() -> None:
    code = """
        import os, subprocess, sys, threading
        from mlx_finetuning.jobs import scheduling
        scheduling.as_batch_work()
        seen = [os.sched_getscheduler(0)]
        thread = threading.Thread(target=lambda: seen.append(os.sched_getscheduler(0)))
        thread.start(), thread.join()
        child = "import os; print(os.sched_getscheduler(0))"
        seen.append(int(subprocess.check_output([sys.executable, "-c", child])))
        assert seen == 3 * [os.SCHED_BATCH], seen
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
