"""A job's state: what `status.json` says, corrected by whether its worker lives.

Liveness is judged by the worker's lock alone, never by a process id: after SIGKILL an unreaped
child still answers signals, while an inherited `flock` frees at once. Only reads.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from mlx_finetuning import files
from mlx_finetuning.errors import RecordDamaged
from mlx_finetuning.language import N_, _
from mlx_finetuning.workspace import JobPaths

STALLED_AFTER_S = 60.0


class JobState(StrEnum):
    """What a job is doing, or what became of it."""

    called: str
    """What people call it, in Japanese."""

    def __new__(cls, value: str, called: str = "") -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.called = called
        return member

    @property
    def label(self) -> str:
        """What people call it."""
        return _(self.called, "state")

    QUEUED = "queued", N_("順番待ち", "state")
    RUNNING = "running", N_("実行中", "state")
    STOPPING = "stopping", N_("停止処理中", "state")
    DONE = "done", N_("完了", "state")
    FAILED = "failed", N_("失敗", "state")
    CANCELLED = "cancelled", N_("停止", "state")
    # The following are derived, and never on disk.
    PAUSED = "paused", N_("一時停止", "state")
    INTERRUPTED = "interrupted", N_("中断", "state")
    STALLED = "stalled", N_("応答なし", "state")
    DAMAGED = "damaged", N_("破損", "state")
    NEWER = "newer", N_("新しい版の記録", "state")


ON_DISK = (
    *(JobState.QUEUED, JobState.RUNNING, JobState.STOPPING),
    *(JobState.DONE, JobState.FAILED, JobState.CANCELLED),
)
LIVING = (JobState.QUEUED, JobState.RUNNING, JobState.STOPPING, JobState.STALLED)


@dataclass(frozen=True)
class JobStatus:
    """`status.json`, or what is derived from it. Times of day are ISO 8601 in UTC."""

    state: JobState
    stage: str = ""
    done: int = 0
    total: int = 0
    detail: str = ""
    created_at: str = ""
    started_at: str = ""
    ended_at: str = ""
    elapsed_s: float = 0.0
    """Seconds since the job left the queue."""
    remaining_s: float | None = None
    """Seconds the current stage is expected to take yet."""
    heartbeat_s: float = 0.0
    """The worker's last sign of life on the machine's monotonic clock."""
    due_s: float | None = None
    """By when, on the same clock, the work itself must have reported again; None: at any time."""
    error: dict[str, Any] | None = None

    @property
    def is_living(self) -> bool:
        """Whether a worker works on it, waits, or hangs."""
        return self.state in LIVING


def read(paths: JobPaths) -> JobStatus:
    """The job's state, with `interrupted`, `stopping` and `stalled` derived.

    Raises FileNotFoundError, RecordDamaged, NewerSchema.
    """
    status = on_disk(paths)
    if not status.is_living:
        return status
    if not files.is_locked(paths.lock):
        # The worker may have ended well between the two looks: the file is final only now.
        status = on_disk(paths)
        return (
            dataclasses.replace(status, state=JobState.INTERRUPTED) if status.is_living else status
        )
    # Either nothing is heard of the process, or of its work although the process is there.
    now_s = time.monotonic()
    is_overdue = status.due_s is not None and now_s > status.due_s
    if is_overdue or now_s - status.heartbeat_s > STALLED_AFTER_S:
        return dataclasses.replace(status, state=JobState.STALLED)
    if paths.stop_request.exists():
        return dataclasses.replace(status, state=JobState.STOPPING)
    return status


def on_disk(paths: JobPaths) -> JobStatus:
    """`status.json` as it was written. Raises FileNotFoundError, RecordDamaged, NewerSchema."""
    record = files.read_json(paths.status)
    try:
        state, error = JobState(record["state"]), record["error"]
        if state not in ON_DISK:
            raise ValueError(state)
        if error is not None and not isinstance(error, dict):
            raise TypeError(error)
        return JobStatus(
            state=state,
            done=int(record["done"]),
            total=int(record["total"]),
            elapsed_s=float(record["elapsed_s"]),
            remaining_s=_seconds(record["remaining_s"]),
            heartbeat_s=float(record["heartbeat_s"]),
            due_s=_seconds(record.get("due_s")),  # records of before it existed have none
            error=error,
            **{key: str(record[key]) for key in _TEXTS},
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RecordDamaged(path=str(paths.status)) from error


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)


_TEXTS = ("stage", "detail", "created_at", "started_at", "ended_at")
