"""Progress on standard error: one line that updates on a terminal, a few plain lines elsewhere.

Silent for work that is over within a second. Shows the share done and the time left.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import TextIO

from mlx_finetuning.cli import text
from mlx_finetuning.language import _
from mlx_finetuning.progress import Step
from mlx_finetuning.utils.time_left import TimeLeft

SILENT_S = 1.0
REDRAW_S = 0.1
PLAIN_S = 5.0
_CLEAR = "\r\x1b[2K"


class ProgressLine:
    """A `Progress` callback that draws."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._clock = clock
        self._time_left = TimeLeft(clock)
        self._started_s = clock()
        self._drawn_s = 0.0
        self._stage = ""
        self._is_drawn = False

    def __call__(self, step: Step) -> None:
        remaining_s = self._time_left.after(step)
        now_s = self._clock()
        if now_s - self._started_s < SILENT_S:
            return
        interval_s = REDRAW_S if self._is_terminal else PLAIN_S
        if step.stage == self._stage and now_s - self._drawn_s < interval_s:
            return
        self._stage, self._drawn_s = step.stage, now_s
        shown = line(step, remaining_s)
        if self._is_terminal:
            columns = shutil.get_terminal_size().columns - 1
            self._stream.write(_CLEAR + text.shorten(shown, columns))
            self._is_drawn = True
        else:
            self._stream.write(f"{shown}\n")
        self._stream.flush()

    def close(self) -> None:
        """Clear the line, so that what follows starts on an empty one."""
        if self._is_drawn:
            self._stream.write(_CLEAR)
            self._stream.flush()
            self._is_drawn = False


def line(step: Step, remaining_s: float | None) -> str:
    """`学習  120/300 (40%)  損失 1.23  残り1分20秒`."""
    parts = [step.stage]
    if step.total > 0:
        share = f"{step.done / step.total:.0%}"
        # Bytes and parameters come in millions; nobody reads those digits.
        parts.append(share if step.total >= 1_000_000 else f"{step.done}/{step.total} ({share})")
    if step.detail:
        parts.append(step.detail)
    if remaining_s is not None:
        parts.append(_("残り{time}").format(time=text.duration(remaining_s)))
    return "  ".join(parts)
