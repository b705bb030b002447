"""How long a stage will take yet, from how long it took so far."""

from __future__ import annotations

import time
from collections.abc import Callable

from mlx_finetuning.progress import Step


class TimeLeft:
    """Watches the steps of one piece of work; each stage is timed for itself."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage: str | None = None
        self._first_done = 0
        self._since_s = 0.0

    def after(self, step: Step) -> float | None:
        """Seconds left of the step's stage; None while there is too little to go by."""
        if step.remaining_s is not None:
            return step.remaining_s
        if step.stage != self._stage:
            self._stage, self._first_done, self._since_s = step.stage, step.done, self._clock()
            return None
        finished = step.done - self._first_done
        if finished <= 0 or step.total <= 0:
            return None
        per_unit_s = (self._clock() - self._since_s) / finished
        return round(per_unit_s * max(step.total - step.done, 0), 1)
