"""What a task gets from the worker, and an engine from its task."""

from __future__ import annotations

from dataclasses import dataclass

from mlx_finetuning.files import JsonObject
from mlx_finetuning.progress import Progress, WriteEvent
from mlx_finetuning.workspace import JobPaths, Workspace


@dataclass(frozen=True)
class TaskContext:
    """The job's surroundings, read only."""

    workspace: Workspace
    paths: JobPaths
    """The job's own folder; a training job's is the run's folder."""
    run_id: str
    """The run the job belongs to; empty for jobs without one (downloading a model)."""
    config: JsonObject
    """The job's settings as they were written to `job.json`."""
    progress: Progress
    """Call at least once a second; raises Interrupted when a stop was asked for."""
    event: WriteEvent
