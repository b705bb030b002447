"""`python -m mlx_finetuning.worker FOLDER --lock-fd N`: does one job and ends.

Started by `jobs.jobs`, in a session of its own. Waits for the device, runs the task, writes
the result and the last status. The one broad `except` of this process is here.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from mlx_finetuning import files, preferences, tasks
from mlx_finetuning.errors import Interrupted, StudioError
from mlx_finetuning.jobs import jobs, kinds, queue, scheduling
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.reporter import Reporter
from mlx_finetuning.jobs.status import JobState
from mlx_finetuning.utils import mac
from mlx_finetuning.utils.redaction import log_traceback, recorded
from mlx_finetuning.workspace import JobPaths, Workspace


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 for a finished or cancelled job, 1 for a failed one."""
    parser = argparse.ArgumentParser(prog="mlx_finetuning.worker")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lock-fd", type=int, required=True)
    options = parser.parse_args(arguments)
    os.umask(0o077)
    paths = JobPaths(options.folder)
    # Kept for the life of the process: the lock is what says that this job's worker lives.
    lock = files.FileLock(paths.lock)
    lock.adopt(options.lock_fd)
    jobs.sign(options.lock_fd)
    reporter = Reporter(paths)

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        reporter.stop_asked = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, ask_to_stop)
    code = _worked(paths, reporter)
    # Preferences that cannot be read ask for nothing.
    with contextlib.suppress(StudioError, OSError):
        workspace = Workspace(Path(jobs.read_job(paths).workspace))
        if preferences.notifies(workspace):
            from mlx_finetuning.jobs import notices  # late: few want them

            notices.tell_end(workspace, paths)
    return code


def _worked(paths: JobPaths, reporter: Reporter) -> int:
    """Do the job and write how it ended; the exit status."""
    try:
        _work(paths, reporter)
    except Interrupted:
        reporter.finish(JobState.CANCELLED)
    except StudioError as error:
        log_traceback(error)
        reporter.finish(JobState.FAILED, error)
        return 1
    except Exception as error:
        reporter.finish(JobState.FAILED, recorded(error, str(paths.log)))
        return 1
    else:
        reporter.finish(JobState.DONE)
    return 0


def _work(paths: JobPaths, reporter: Reporter) -> None:
    job = jobs.read_job(paths)
    workspace = Workspace(Path(job.workspace))
    if not kinds.of(job.kind).needs_device:
        reporter.start()
        _run(job, workspace, paths, reporter)
        return
    device = queue.wait_for_turn(workspace, paths, reporter.wait_in_queue)
    try:
        reporter.start()
        mac.stay_awake()
        queue.sweep(workspace)
        _run(job, workspace, paths, reporter)
    finally:
        reporter.give_back()
        device.release()


def _run(job: jobs.Job, workspace: Workspace, paths: JobPaths, reporter: Reporter) -> None:
    from mlx_finetuning.utils import blas

    blas.preload()
    scheduling.as_batch_work()
    context = TaskContext(
        workspace, paths, job.run_id, job.config, reporter.progress, reporter.event
    )
    with files.disk_errors(paths.folder):  # of libraries, too, and of files in memory
        files.write_json(paths.result, dataclasses.asdict(tasks.load(job.kind)(context)))


if __name__ == "__main__":
    sys.exit(main())
