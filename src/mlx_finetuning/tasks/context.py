"""What a task gets from the worker; defined beside the engines, which take it too."""

from mlx_finetuning.jobs.context import Event, TaskContext

__all__ = ["Event", "TaskContext"]
