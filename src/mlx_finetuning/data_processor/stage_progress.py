"""Progress from inside long loops: a report every half second, at which the user can cancel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from mlx_finetuning.progress import Progress, Step

T = TypeVar("T")

EVERY_S = 0.4
_LOOK = 256
"""Items between two looks at the clock."""

Tick = Callable[[int, int], None]
"""Takes the number of items done and expected (0 if unknown). Raises Interrupted to cancel."""


def still(done: int, total: int) -> None:
    """A tick that reports nothing."""


def ticker(progress: Progress, stage: str) -> Tick:
    """Reports to `progress` at once, and then not more often than every 0.4 seconds."""
    progress(Step(stage, 0, 0))
    last_s = time.monotonic()

    def tick(done: int, total: int) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s >= EVERY_S:
            last_s = now_s
            progress(Step(stage, done, total))

    return tick


def watched(items: Sequence[T], tick: Tick) -> Iterator[T]:
    """The items one by one, with a tick every few hundred."""
    total = len(items)
    for start in range(0, total, _LOOK):
        tick(start, total)
        yield from items[start : start + _LOOK]
