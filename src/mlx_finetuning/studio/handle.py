"""A job that was started, and its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mlx_finetuning.jobs import jobs
from mlx_finetuning.jobs.jobs import Job
from mlx_finetuning.progress import Progress, silent
from mlx_finetuning.workspace import JobPaths, Workspace

Result = TypeVar("Result")


@dataclass(frozen=True)
class JobHandle(Generic[Result]):
    """A job in the background; it goes on whether or not somebody follows it."""

    paths: JobPaths
    decode: Callable[[dict[str, Any]], Result]
    """Reads the job's `result.json`."""

    def follow(self, progress: Progress = silent) -> Result:
        """Report its steps until it ends, then its result. Raises the error it ended with.

        Ctrl-C, or Interrupted from `progress`, stops the job and is raised as Interrupted.
        """
        return self.decode(jobs.follow(self.paths, progress))


def start(workspace: Workspace, kind: str, settings: Mapping[str, Any]) -> JobPaths:
    """Start a job that belongs to no run. Raises DiskFull."""
    paths = workspace.job(jobs.new_name(kind))
    jobs.launch(paths, Job(kind, str(workspace.root), "", dict(settings)))
    return paths
