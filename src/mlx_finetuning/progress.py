"""How a stage says how far it is. One small callback; raising from it cancels the stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Step:
    """One report of a stage."""

    stage: str
    """What is being done, in Japanese, as shown to the user: 「学習」「量子化」."""
    done: int
    total: int
    """Units finished and expected; `total` 0 means that the length is unknown."""
    detail: str = ""
    """A short Japanese remark: 「損失 1.234」."""
    remaining_s: float | None = None
    """Seconds left of the stage, where the reporter knows better than its listener."""


Progress = Callable[[Step], None]
"""Called often; must be cheap. Raises `errors.Interrupted` when the user asked to stop."""


class WriteEvent(Protocol):
    """Appends one line to a job's `events.jsonl`; `data` holds plain JSON values."""

    def __call__(self, name: str, **data: Any) -> None: ...


def silent(step: Step) -> None:
    """A progress callback that shows nothing."""
