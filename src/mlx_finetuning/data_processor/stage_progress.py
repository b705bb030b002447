"""Progress from inside the long loops of a stage; every report is a chance to cancel."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from mlx_finetuning.progress import Progress, Step, silent

T = TypeVar("T")

INTERVAL_S = 0.4
_CHUNK = 256
"""Items between two looks at the clock."""


class StageProgress:
    """Reports one stage to `progress`: at once, and then not more often than every 0.4 seconds.

    Every method raises what `progress` raises: Interrupted, when the user has cancelled.
    """

    def __init__(self, progress: Progress, stage: str) -> None:
        self._progress = progress
        self._stage = stage
        progress(Step(stage, 0, 0))
        self._last_s = time.monotonic()

    def update(self, done: int, total: int) -> None:
        """Items done and expected; `total` 0 means that their number is unknown."""
        now_s = time.monotonic()
        if now_s - self._last_s >= INTERVAL_S:
            self._last_s = now_s
            self._progress(Step(self._stage, done, total))

    def check_cancelled(self) -> None:
        """A chance to cancel between steps that cannot be counted."""
        self.update(0, 0)

    def over(self, items: Sequence[T]) -> Iterator[T]:
        """The items one by one, with a report every few hundred."""
        total = len(items)
        for start in range(0, total, _CHUNK):
            self.update(start, total)
            yield from items[start : start + _CHUNK]


SILENT = StageProgress(silent, "")
