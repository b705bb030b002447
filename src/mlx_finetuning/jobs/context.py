"""What a task gets from the worker, and an engine from its task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from mlx_finetuning.files import JsonObject
from mlx_finetuning.progress import Progress
from mlx_finetuning.workspace import JobPaths, Workspace


class Event(Protocol):
    """Appends one line to the job's `events.jsonl`; `data` holds plain JSON values."""

    def __call__(self, name: str, **data: Any) -> None: ...


@dataclass(frozen=True)
class TaskContext:
    """The job's surroundings, read only."""

    workspace: Workspace
    paths: JobPaths
    """The job's own folder; a training job's is the run's folder."""
    run_id: str
    """The run the job belongs to; empty for jobs without one (building a model)."""
    config: JsonObject
    """The job's settings as they were written to `job.json`."""
    progress: Progress
    """Call at least once a second; raises Interrupted when a stop was asked for."""
    event: Event
