"""A job that was started, and its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from mlx_finetuning.jobs import jobs
from mlx_finetuning.jobs.jobs import Job
from mlx_finetuning.progress import Progress, silent
from mlx_finetuning.workspace import JobPaths, Workspace

Result = TypeVar("Result")


@dataclass(frozen=True)
class JobHandle(Generic[Result]):
    """A job in the background; it goes on whether or not somebody follows it."""

    paths: JobPaths
    result_type: type[Result]
    """The dataclass of its `result.json`."""

    def follow(self, progress: Progress = silent) -> Result:
        """Report its steps until it ends, then its result. Raises the error it ended with.

        Ctrl-C, or Interrupted from `progress`, stops the job and is raised as Interrupted.
        """
        jobs.follow(self.paths, progress)
        return jobs.result(self.paths, self.result_type)


def start(workspace: Workspace, kind: str, settings: Mapping[str, object]) -> JobPaths:
    """Start a job that belongs to no run. Raises DiskFull."""
    paths = workspace.job(jobs.new_name(kind))
    jobs.launch(paths, Job(kind, str(workspace.root), "", dict(settings)))
    return paths
