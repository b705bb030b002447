"""The worker's side of `status.json` and `events.jsonl`.

Steps reach the disk at most every half second. A daemon thread repeats the last status every two
seconds, so a silent stage (loading a model) still shows that its process lives; by when the work
itself must be heard of again is part of the status. One lock serialises the two writers. Stop
requests are noticed here and raised into the task.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
import time
from typing import Any

from mlx_finetuning import files
from mlx_finetuning.errors import Interrupted, StudioError
from mlx_finetuning.jobs import jobs, status
from mlx_finetuning.jobs.status import JobState
from mlx_finetuning.jobs.watchdog import Watchdog
from mlx_finetuning.language import _
from mlx_finetuning.progress import Step
from mlx_finetuning.utils.time_left import TimeLeft
from mlx_finetuning.workspace import JobPaths

WRITE_EVERY_S = 0.5
HEARTBEAT_S = 2.0


class Reporter:
    """Owns the status of one job while its worker lives."""

    def __init__(self, paths: JobPaths) -> None:
        self.stop_asked = False
        """Set by signal handlers; a plain flag, because they may interrupt anything."""
        self._paths = paths
        self._status = status.on_disk(paths)
        self._events = files.LineLog(paths.events)
        self._started_s: float | None = None
        self._ended_at = ""
        self._written_s = 0.0
        self._time_left = TimeLeft()
        self._watchdog = Watchdog()
        self._writing = threading.Lock()
        self._ended = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def wait_in_queue(self) -> None:
        """To be called between two looks at the queue. Raises Interrupted."""
        self._raise_if_stopped()
        if not self._status.detail:
            self._change(
                stage=JobState.QUEUED.label, detail=_("ほかの作業が終わるのを待っています")
            )

    def start(self) -> None:
        """The job has the device."""
        self._started_s = time.monotonic()
        first = Step(_("準備"), 0, 0)
        due_s = self._watchdog.after(first)
        running = {"state": JobState.RUNNING, "started_at": jobs.now(), "due_s": due_s}
        self._change(**running, stage=first.stage, detail="")
        self.event("state", state=JobState.RUNNING)

    def progress(self, step: Step) -> None:
        """A `Progress` callback. Raises Interrupted when a stop was asked for."""
        self._raise_if_stopped()
        remaining_s, due_s = self._time_left.after(step), self._watchdog.after(step)
        is_new_stage = step.stage != self._status.stage
        with self._writing:
            self._status = dataclasses.replace(
                self._status,
                stage=step.stage,
                done=step.done,
                total=step.total,
                detail=step.detail,
                remaining_s=remaining_s,
                due_s=due_s,
            )
        if is_new_stage:
            self.event("stage", stage=step.stage)
        if is_new_stage or time.monotonic() - self._written_s >= WRITE_EVERY_S:
            self._write_if_possible()

    def event(self, name: str, **data: Any) -> None:
        """Append a line to `events.jsonl`."""
        self._events.append({"time": jobs.now(), "event": name, **data})

    def give_back(self) -> None:
        """The job lets go of the device: for records it ended now, before the next one starts."""
        self._ended_at = jobs.now()

    def finish(self, state: JobState, error: StudioError | None = None) -> None:
        """Write the last status. A full disk is reported to the log and hides nothing."""
        self._ended.set()
        if state == JobState.DONE:  # a stage tells what it has begun with, too
            self._status = dataclasses.replace(self._status, done=self._status.total)
        self._paths.reserve.unlink(missing_ok=True)
        self._change(
            state=state,
            ended_at=self._ended_at or jobs.now(),
            remaining_s=None,
            due_s=None,
            error=None if error is None else error.to_json(),
        )
        try:
            self.event("state", state=state)
        except (StudioError, OSError) as problem:
            self._complain(problem)

    def _raise_if_stopped(self) -> None:
        if self.stop_asked or self._paths.stop_request.exists():
            if self._status.state == JobState.RUNNING:
                self._change(state=JobState.STOPPING)
            raise Interrupted()

    def _change(self, **changes: Any) -> None:
        with self._writing:
            self._status = dataclasses.replace(self._status, **changes)
        self._write_if_possible()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            self._write_if_possible(only_while_working=True)

    def _write_if_possible(self, only_while_working: bool = False) -> None:
        """A status that cannot be written must not end a run whose own files still can be."""
        with self._writing:
            if only_while_working and self._ended.is_set():
                return
            self._written_s = time.monotonic()
            started_s = self._written_s if self._started_s is None else self._started_s
            elapsed_s = round(self._written_s - started_s, 3)
            self._status = dataclasses.replace(
                self._status, heartbeat_s=self._written_s, elapsed_s=elapsed_s
            )
            try:
                jobs.write_status(self._paths, self._status)
            except (StudioError, OSError) as problem:
                self._complain(problem)

    def _complain(self, problem: Exception) -> None:
        with contextlib.suppress(OSError):
            print(f"{self._paths.status}: {problem}", file=sys.stderr)  # noqa: T201
