"""How long a piece of work may be silent before it counts as hung, from its own pace.

Errs towards patience: a slow step must never be called a hang, and nobody is ended for one.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from mlx_finetuning.progress import Step

UNKNOWN_S = 6 * 3600.0
"""For a stage that has not finished a unit yet: loading, the first update of a large model."""
LEAST_S = 1800.0
"""For any other; sample answers and checks happen between two units, and say nothing."""
TIMES = 20
"""How many times as long as its slowest unit so far a stage may be silent."""


class Watchdog:
    """Watches the steps of one piece of work; each stage has a pace of its own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: Step | None = None
        self._moved_s = clock()
        self._slowest_s: dict[str, float] = {}

    def after(self, step: Step) -> float:
        """When the next step is due at the latest, in seconds of the clock."""
        now_s = self._clock()
        if self._last is None or step.stage != self._last.stage:
            self._moved_s = now_s
        elif step.done > self._last.done:
            slowest_s = self._slowest_s.get(step.stage, 0.0)
            self._slowest_s[step.stage] = max(slowest_s, now_s - self._moved_s)
            self._moved_s = now_s
        self._last = step
        if step.stage not in self._slowest_s:
            return now_s + UNKNOWN_S
        return now_s + max(LEAST_S, TIMES * self._slowest_s[step.stage])
