"""One job at a time works on the device; the others wait, the oldest first.

A waiting worker takes the device's lock when it is free and no older living job waits. Both are
judged by locks, so a killed worker holds nobody up. Nothing heavy is loaded while waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mlx_finetuning import files
from mlx_finetuning.errors import StudioError
from mlx_finetuning.jobs import jobs, kinds, status
from mlx_finetuning.jobs.status import JobState
from mlx_finetuning.workspace import JobPaths, Workspace

POLL_S = 0.2


def wait_for_turn(
    workspace: Workspace, paths: JobPaths, while_waiting: Callable[[], None]
) -> files.FileLock:
    """The device's lock, held, once it is this job's turn.

    `while_waiting` is called between looks and may raise to give up.
    """
    mine = _rank(paths, status.on_disk(paths))
    lock = files.FileLock(workspace.device_lock)
    while True:
        if not files.is_locked(lock.path):
            queued = (job for job in living_jobs(workspace) if job.status.state == JobState.QUEUED)
            is_behind = any(_rank(job.paths, job.status) < mine for job in queued)
            if not is_behind and lock.acquire():
                return lock
        while_waiting()
        time.sleep(POLL_S)


def _rank(paths: JobPaths, job: status.JobStatus) -> tuple[str, str]:
    # The folder settles ties, so that two jobs never wait for each other.
    return job.created_at, str(paths.folder)


@dataclass(frozen=True)
class LivingJob:
    """A job whose worker lives: it works or waits."""

    paths: JobPaths
    kind: str
    run_id: str
    """Empty for a job that belongs to no run."""
    status: status.JobStatus


def living_jobs(workspace: Workspace) -> list[LivingJob]:
    """The workspace's living jobs, the oldest first; what cannot be read is passed over."""
    living = []
    for paths in job_folders(workspace):
        # Looking at the lock first keeps this cheap with hundreds of finished jobs.
        if not files.is_locked(paths.lock):
            continue
        try:
            job, current = jobs.read_job(paths), status.read(paths)
        except (StudioError, FileNotFoundError):
            continue
        if current.is_living:
            living.append(LivingJob(paths, job.kind, job.run_id, current))
    return sorted(living, key=lambda job: job.status.created_at)


def before(workspace: Workspace, paths: JobPaths) -> list[LivingJob]:
    """The living jobs that a waiting one waits for: what works now, and what was queued earlier."""
    mine = _rank(paths, status.on_disk(paths))
    return [
        job
        for job in living_jobs(workspace)
        if job.paths.folder != paths.folder
        and kinds.of(job.kind).needs_device
        and (job.status.state != JobState.QUEUED or _rank(job.paths, job.status) < mine)
    ]


def job_folders(workspace: Workspace) -> Iterator[JobPaths]:
    """Every job of the workspace: runs, their later jobs, and jobs without a run."""
    for pattern in ("experiments/*/", "experiments/*/jobs/*/", "logs/jobs/*/"):
        for folder in workspace.root.glob(pattern):
            if not folder.name.startswith(files.TEMPORARY_PREFIX):
                yield JobPaths(folder)


def sweep(workspace: Workspace, older_than_s: float = 3600) -> None:
    """Remove what killed workers left: half-written files, and room for words they never wrote.

    For whoever has the device: nobody else writes large files.
    """
    files.sweep_temporaries(workspace.root, older_than_s)
    for paths in job_folders(workspace):
        if paths.reserve.exists() and not files.is_locked(paths.lock):
            paths.reserve.unlink(missing_ok=True)
