"""Fetch a base model from the hub; a download that was stopped goes on where it was."""

from __future__ import annotations

from typing import Any

from mlx_finetuning import models
from mlx_finetuning.tasks.context import TaskContext


def run(context: TaskContext) -> dict[str, Any]:
    """config: `name`, a hub id. Raises ModelError, NotEnoughSpace."""
    path = models.download(context.config["name"], context.workspace, context.progress)
    return {"name": context.config["name"], "path": str(path)}
