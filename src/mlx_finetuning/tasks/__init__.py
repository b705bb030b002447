"""What a worker can do: one module per kind of job, each with `run(context)`, whose result is a
dataclass that becomes `result.json`.

Tasks compose stage packages (an export that is verified against MLX, an evaluation that reads a
dataset); only the worker imports them. None but `auto` and `tune` starts
other jobs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from mlx_finetuning.jobs import kinds
from mlx_finetuning.jobs.context import TaskContext

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Task = Callable[[TaskContext], "DataclassInstance"]


def load(kind: str) -> Task:
    """The `run` function of `tasks/<kind>.py`; imports what that task needs, and no other's."""
    if not kinds.of(kind).has_task:
        raise ValueError(f"unknown kind of job: {kind}")
    return cast(Task, importlib.import_module(f"{__name__}.{kind}").run)
