"""Two interfaces and a command line that start a run at the same moment, again and again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise

from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.progress import silent
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace

AS_THE_PAGE = """
import sys
from pathlib import Path
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace
settings = TrainConfig(dataset="facts", engine="simulation", iterations=8, warmup=0)
print("ready", flush=True)
for _ in sys.stdin:
    Studio(Workspace(Path(sys.argv[1]))).training.start(settings)
    print("started", flush=True)
"""
AS_THE_COMMAND = """
import sys
from mlx_finetuning import cli
words = ["train", "--dataset", "facts", "--engine", "simulation", "--detach", "--json"]
words += ["--set", "iterations=8", "--set", "warmup=0", "--workspace", sys.argv[1]]
print("ready", flush=True)
for _ in sys.stdin:
    sys.stdout, out = sys.stderr, sys.stdout
    assert cli.main(words) == 0
    sys.stdout = out
    print("started", flush=True)
"""
STARTERS = (AS_THE_PAGE, AS_THE_PAGE, AS_THE_COMMAND)


def test_one_trains_and_the_others_queue_in_order(
    workspace: Workspace, facts: str, often: Callable[[int], int]
) -> None:
    starters = [starter(program, workspace) for program in STARTERS]
    try:
        for one in starters:
            heard(one)
        for attempt in range(often(50)):
            require_one_after_another(at_once(starters, Studio(workspace)), attempt)
    finally:
        for one in starters:
            one.kill()
            one.communicate()


def starter(program: str, workspace: Workspace) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, str(workspace.root)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, bufsize=1
    )


def heard(one: subprocess.Popen[str]) -> None:
    assert one.stdout is not None and one.stdout.readline()


def at_once(starters: list[subprocess.Popen[str]], studio: Studio) -> list[Run]:
    """The runs that were started together, once all have ended."""
    before = {run.run_id for run in studio.runs.list()}
    for one in starters:
        assert one.stdin is not None
        one.stdin.write("go\n")
    for one in starters:
        heard(one)
    made = [run.run_id for run in studio.runs.list() if run.run_id not in before]
    for run_id in made:
        studio.runs.follow(run_id, silent)
    return [studio.runs.show(run_id) for run_id in made]


def require_one_after_another(found: list[Run], attempt: int) -> None:
    assert [run.status.state for run in found] == ["done"] * len(STARTERS), attempt
    queued = sorted(found, key=lambda run: run.status.created_at)
    for earlier, later in pairwise(queued):
        assert earlier.status.ended_at <= later.status.started_at, attempt
