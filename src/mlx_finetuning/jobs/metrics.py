"""A run's metrics log, read as it grows: a look at a long run costs what is new since the last.

Columns of plain doubles, 72 bytes an update. Half a last line waits for its end; a log that was
cut, as resuming does, is read anew.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
from array import array
from pathlib import Path

COLUMNS = (
    *("update", "loss", "learning_rate", "gradient_norm"),
    *("tokens_per_second", "peak_memory_gb", "card_memory_gb", "elapsed_s"),
)


class Metrics:
    """The log at `path`, which need not exist yet. Several threads may share one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reading = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._offset = 0
        self.trained = {name: array("d") for name in COLUMNS}
        """One value per update; NaN where a line lacks it."""
        self.validated = (array("d"), array("d"))
        """Updates and validation losses."""

    def refresh(self) -> None:
        """Read what was added."""
        with self._reading:
            try:
                stream = self._path.open("rb")
            except FileNotFoundError:
                self._forget()
                return
            with stream:
                if os.fstat(stream.fileno()).st_size < self._offset:
                    self._forget()
                stream.seek(self._offset)
                for line in stream:
                    if not line.endswith(b"\n"):
                        break
                    self._offset += len(line)
                    self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            value = json.loads(line)
            update = float(value["update"])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return
        if not math.isfinite(update):
            return
        if "valid_loss" in value:
            self._cut(self.validated, update)
            self.validated[0].append(update)
            self.validated[1].append(_number(value["valid_loss"]))
        elif "loss" in value:
            self._cut(tuple(self.trained.values()), update)
            for name, column in self.trained.items():
                column.append(_number(value.get(name)))

    def _cut(self, columns: tuple[array[float], ...], update: float) -> None:
        """Forget what a resumed run does again (the log may have grown past where we were)."""
        updates = columns[0]
        while updates and updates[-1] >= update:
            for column in columns:
                column.pop()

    @property
    def best_valid(self) -> tuple[int, float] | None:
        """Update and loss of the best validation."""
        pairs = [pair for pair in zip(*self.validated, strict=True) if pair[1] == pair[1]]
        if not pairs:
            return None
        update, loss = min(pairs, key=lambda pair: pair[1])
        return int(update), loss

    def latest(self, name: str) -> float | None:
        """The newest value of a column that is a number."""
        column = self.trained[name]
        return column[-1] if column and column[-1] == column[-1] else None


def best_valid(path: Path) -> float | None:
    """The lowest validation loss of a log; of the many other lines nothing is parsed."""
    best = math.inf
    with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:
        for line in stream:
            if b'"valid_loss"' in line:
                with contextlib.suppress(ValueError, TypeError, AttributeError):
                    best = min(best, _number(json.loads(line).get("valid_loss")))
    return best if math.isfinite(best) else None


def _number(value: object) -> float:
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:  # an integer of 400 digits
        return math.nan
