"""What a run will take, before it starts: its first few updates, done in a folder that is thrown away.

Memory is what these processes held after the longest update, which is done first. Time
is that of the updates done, so a run that keeps the outputs of lower layers ends sooner than said.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import Interrupted, RunDoesNotFit
from mlx_finetuning.jobs.results import Estimate
from mlx_finetuning.language import N_, _, sentences
from mlx_finetuning.mlx_trainer.batches.examples import Example
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.mlx_trainer.training import loop
from mlx_finetuning.progress import Progress, Step
from mlx_finetuning.tokenization.rows import Row
from mlx_finetuning.workspace import AdapterPaths

STAGE = N_("学習の見積もり")
UPDATES, SECONDS = 8, 5.0
"""What is done at most, but at least two updates."""
VALID_ROWS = 24
"""Held-out rows whose loss is timed."""
STEADY = 16
"""Examples an update beyond which its gradient hardly gets steadier."""
AN_EPOCH = 10
"""Updates that an epoch should have."""


class _Enough(Interrupted, code=""):
    """The run has shown what it takes."""


class _Watcher:
    """Takes what the run reports, and ends it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.facts: dict[str, Any] = {}
        self.warnings: list[str] = []
        self._last_s = 0.0
        """When the last thing was reported."""
        self._took_s = 0.0
        """All updates so far."""
        self._done = 0
        self._tokens = 0.0
        self.valid_s = 0.0
        self.samples_s = 0.0
        self.peak_memory_gb = 0.0

    def event(self, name: str, **data: Any) -> None:
        if name in ("fit", "rehearsed"):
            self.facts |= data
        if name == "warning":
            self.warnings.append(str(data["text"]))
        if name == "rehearsed":
            self._last_s = time.monotonic()

    def record(self, line: Mapping[str, float]) -> None:
        since_s, self._last_s = time.monotonic() - self._last_s, time.monotonic()
        if "valid_loss" in line:
            self.valid_s = since_s
            return
        self._took_s += since_s
        self._done += 1
        self._tokens += line["tokens"]
        self.peak_memory_gb = line["peak_memory_gb"]

    def sample(self, line: Mapping[str, object]) -> None:
        since_s, self._last_s = time.monotonic() - self._last_s, time.monotonic()
        self.samples_s += since_s

    def progress(self, step: Step) -> None:
        self._progress(Step(_(STAGE), 0, 0, step.stage))
        is_steady = self._done > 1 and self._took_s > SECONDS
        if step.stage == _(loop.STAGE, "job") and (is_steady or self._done >= UPDATES):
            raise _Enough()

    @property
    def seconds_per_token(self) -> float:
        return self._took_s / self._tokens if self._tokens else 0.0


def estimate(
    loaded: LoadedModel,
    train_rows: Sequence[Row],
    valid_rows: Sequence[Row],
    config: TrainConfig,
    progress: Progress,
    replayed: Sequence[Example] = (),
) -> Estimate:
    """`replayed`: as for `loop.train`. Raises what `loop.train` raises before its first update, but for RunDoesNotFit."""
    watcher = _Watcher(progress)
    hooks = loop.Hooks(watcher.record, watcher.event, watcher.progress, sample=watcher.sample)
    try:
        with tempfile.TemporaryDirectory() as folder:
            paths = AdapterPaths(Path(folder))
            some = valid_rows[:VALID_ROWS]
            loop.train(loaded, train_rows, some, config, paths, hooks, replayed, rehearsed=True)
    except _Enough:
        pass
    except RunDoesNotFit as error:
        return refused(config, len(train_rows), error)
    return _estimated(watcher, config, len(valid_rows))


def _estimated(watcher: _Watcher, config: TrainConfig, valid_rows: int) -> Estimate:
    facts = watcher.facts
    per_update_s = watcher.seconds_per_token * facts["tokens_per_update"]
    updates = facts["updates"]
    share = valid_rows / max(1, min(valid_rows, VALID_ROWS))
    validations = 1 + -(-updates // config.validate_every) if valid_rows else 0
    asked = 1 + -(-updates // config.sample_every) if config.sample_every else 0
    total_s = updates * per_update_s + validations * watcher.valid_s * share
    total_s += asked * watcher.samples_s
    largest, rows = facts["largest_batch_size"], facts["rows"]
    best, reason = recommended(rows, largest)
    return Estimate(
        fits=True,
        peak_memory_gb=round(watcher.peak_memory_gb + facts["kept_gb"], 3),
        available_gb=facts["available_gb"],
        seconds_per_update=round(per_update_s, 4),
        updates=updates,
        total_s=round(total_s, 1),
        rows=rows,
        longest_tokens=facts["longest_tokens"],
        batch_size=config.batch_size,
        micro_batch_size=facts["micro_batch_size"],
        largest_batch_size=largest,
        recommended_batch_size=best,
        processes=facts["processes"],
        recompute=facts["recompute"],
        reason_ja=sentences(*watcher.warnings, reason),
    )


def refused(config: TrainConfig, rows: int, error: RunDoesNotFit) -> Estimate:
    """What can be said of a run that does not fit."""
    data = error.data
    return Estimate(
        fits=False,
        peak_memory_gb=data["needed_gb"],
        available_gb=data["available_gb"],
        seconds_per_update=0.0,
        updates=config.iterations,
        total_s=0.0,
        rows=rows,
        longest_tokens=0,
        batch_size=config.batch_size,
        micro_batch_size=config.micro_batch_size,
        largest_batch_size=data["largest"],
        recommended_batch_size=recommended(rows, data["largest"])[0],
        processes=max(1, config.processes),
        recompute=config.recompute == "on",
        reason_ja=str(error),
    )


def recommended(rows: int, largest: int) -> tuple[int, str]:
    """A power of two that fits, leaves an epoch enough updates, and is no larger than it helps."""
    limit, reason = min(
        (
            largest,
            _("メモリーに一度に収まるのは、一番長い行で {largest} 例までです。").format(
                largest=largest
            ),
        ),
        (
            max(1, rows // AN_EPOCH),
            _("学習用の行が {rows} 行なので、1周に{updates}回ほど更新できる数です。").format(
                rows=rows, updates=AN_EPOCH
            ),
        ),
        (
            STEADY,
            _("{examples} 例あれば更新は安定し、それより多くしても遅くなるだけです。").format(
                examples=STEADY
            ),
        ),
    )
    return 1 << (max(1, limit).bit_length() - 1), reason
