"""Fetch a base model from the hub; a download that was stopped goes on where it was."""

from __future__ import annotations

from mlx_finetuning import models
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.results import Downloaded


def run(context: TaskContext) -> Downloaded:
    """config: `name`, a hub id. Raises ModelError, NotEnoughSpace."""
    path = models.download(context.config["name"], context.workspace, context.progress)
    return Downloaded(context.config["name"], str(path))
