"""The system's own notice that a job has ended: macOS's by osascript, Linux's by notify-send.

For the worker at its end, so that it comes with the interface closed. What cannot be told is passed
over: a notice must not make a job fail.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys

from mlx_finetuning.errors import StudioError
from mlx_finetuning.jobs import jobs, kinds, queue, runs, status
from mlx_finetuning.jobs.kinds import ENDINGS_JA
from mlx_finetuning.workspace import JobPaths, Workspace

PRODUCT = "mlx-finetuning"
LIMIT_S = 5.0
_SCRIPT = (
    *("-e", "on run argv"),
    *("-e", "display notification (item 2 of argv) with title (item 1 of argv)"),
    *("-e", "end run"),
)


def notice_command(title: str, text: str) -> list[str] | None:
    """What shows a notice on this system; None where nothing does. The texts are never code."""
    if sys.platform == "darwin":
        program, arguments = "osascript", [*_SCRIPT, title, text]
    else:
        program, arguments = "notify-send", [f"--app-name={PRODUCT}", "--", title, text]
    found = shutil.which(program)
    return None if found is None else [found, *arguments]


def is_possible() -> bool:
    """Whether this system can show notices."""
    return notice_command("", "") is not None


def tell_end(workspace: Workspace, paths: JobPaths) -> None:
    """Say how a job ended and of what it was; a stage of おまかせ is left to its end."""
    with contextlib.suppress(StudioError, OSError, subprocess.SubprocessError):
        job, state = jobs.read_job(paths), status.on_disk(paths).state
        if not kinds.of(job.kind).is_told or state not in ENDINGS_JA:
            return
        living = queue.living_jobs(workspace) if job.run_id and job.kind != "auto" else []
        if any(other.kind == "auto" and other.run_id == job.run_id for other in living):
            return
        text = paths.folder.name
        if job.run_id:
            run = runs.show(workspace, job.run_id)
            text = run.title
        tell(kinds.told(job.kind, state), text)


def tell(title: str, text: str) -> None:
    """Show a notice where the system can."""
    command = notice_command(title, text)
    if command is not None:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(command, timeout=LIMIT_S, check=False, capture_output=True)
