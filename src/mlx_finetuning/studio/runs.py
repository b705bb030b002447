"""The runs: their state, metrics and notes, and the trash."""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mlx_finetuning import config, files
from mlx_finetuning.errors import StudioError
from mlx_finetuning.experiment_tracker.records import differences, notes, rerun, trash
from mlx_finetuning.experiment_tracker.records.differences import Comparison
from mlx_finetuning.experiment_tracker.records.notes import Note
from mlx_finetuning.experiment_tracker.records.rerun import Reproduction
from mlx_finetuning.experiment_tracker.records.trash import Deleted
from mlx_finetuning.jobs import jobs, metrics, queue, runs
from mlx_finetuning.jobs.ending import WHOLE, Ending, ending
from mlx_finetuning.jobs.logs import Event, FitEvent, MetricsLine, Sample
from mlx_finetuning.jobs.metrics import Metrics
from mlx_finetuning.jobs.results import TrainResult
from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.jobs.status import JobState
from mlx_finetuning.progress import Progress
from mlx_finetuning.workspace import Workspace


@dataclass(frozen=True)
class Runs:
    """`studio.runs`."""

    workspace: Workspace

    def list(self, most: int | None = None) -> builtins.list[Run]:
        """All runs, or so many at most, the newest first."""
        return runs.list_runs(self.workspace, most)

    def trained(self) -> builtins.list[Run]:
        """Those that left something to export or to talk to, the newest first."""
        return [run for run in self.list() if self.is_trained(run)]

    def is_trained(self, run: Run) -> bool:
        """Whether the run has ended and left something to export or to talk to."""
        return runs.is_trained(self.workspace, run)

    def show(self, run_id: str) -> Run:
        """Raises RunNotFound, InvalidName."""
        return runs.show(self.workspace, run_id)

    def follow(self, run_id: str, progress: Progress, *, stops: bool = False) -> TrainResult:
        """Report a run's steps until it ends; returns its result or raises the error it ended with.

        With `stops`, Ctrl-C (or Interrupted from `progress`) stops the run cleanly; without, it
        only ends the following.
        """
        self.show(run_id)
        paths = self.workspace.run(run_id)
        jobs.follow(paths, progress, stops=stops)
        return jobs.result(paths, TrainResult)

    def ending(self, run: Run) -> Ending:
        """How the training ended, by its losses; of one that is not done, as if it were whole."""
        if run.status.state == JobState.DONE and not run.simulated:
            with contextlib.suppress(StudioError):
                return ending(jobs.result(self.workspace.run(run.run_id), TrainResult))
        return WHOLE

    def stop(self, run_id: str, *, force: bool = False) -> Run:
        """Ask a run to stop and return at once; a run that has ended stays as it is.

        With `force`, the run's worker and those of its later jobs are ended, whether they answer
        or not; what was saved up to then remains.
        """
        run = self.show(run_id)
        if force:
            for job in queue.living_jobs(self.workspace):
                if job.run_id == run_id:
                    jobs.end(job.paths)
        elif run.status.is_living:
            jobs.request_stop(self.workspace.run(run_id))
        return self.show(run_id)

    def metrics(self, run_id: str) -> builtins.list[MetricsLine]:
        """The run's metrics so far. Raises RunNotFound."""
        return runs.metrics(self.workspace, run_id)

    def metrics_reader(self, run_id: str) -> Metrics:
        """The run's metrics for repeated looks, which read only what is new. Raises RunNotFound."""
        self.show(run_id)
        return Metrics(self.workspace.run(run_id).metrics)

    def best_loss(self, run_id: str) -> float | None:
        """The lowest validation loss so far, or None."""
        return metrics.best_valid(self.workspace.run(run_id).metrics)

    def samples(self, run_id: str) -> builtins.list[Sample]:
        """Sample answers during training."""
        return list(files.read_records(self.workspace.run(run_id).samples, Sample))

    def events(self, run_id: str) -> builtins.list[Event]:
        """What happened to the run: states, stages, checkpoints, warnings."""
        return list(files.read_records(self.workspace.run(run_id).events, Event))

    def fit(self, run_id: str) -> FitEvent | None:
        """How the run was fitted into memory, the last time it started; None before it was."""
        fits = list(files.read_records(self.workspace.run(run_id).events, FitEvent))
        return fits[-1] if fits else None

    def log_tail(self, run_id: str, size: int = 8000) -> str:
        """The end of the worker's log, whole lines, at most `size` bytes; empty without a log."""
        return files.read_tail(self.workspace.run(run_id).log, size)

    def settings(self, run_id: str) -> Mapping[str, object]:
        """The settings the run was started with. Raises ConfigFileUnreadable."""
        return config.read_yaml(self.workspace.run(run_id).config)

    def compare(self, run_ids: Sequence[str]) -> Comparison:
        """Settings that differ, and what the curves came to. Raises RunNotFound."""
        return differences.compare(self.workspace, run_ids)

    def compare_losses(self, run_id: str, other_id: str) -> Reproduction:
        """How far the losses of two runs are the same. Raises RunNotFound."""
        return rerun.compare(
            runs.metrics(self.workspace, run_id), runs.metrics(self.workspace, other_id)
        )

    def note(self, run_id: str) -> Note:
        """What was noted of a run; empty where that cannot be read."""
        return notes.read_or_empty(self.workspace.run(run_id))

    def save_note(
        self, run_id: str, text: str, tags: Iterable[str] = (), name: str | None = None
    ) -> Note:
        """Replace a run's note and tags, and its name, where one is given. Raises RunNotFound,
        NewerSchema, DiskFull."""
        before = self.note(run_id)
        called = before.name if name is None else " ".join(name.split())
        return self._write_note(
            run_id, replace(before, text=text.strip(), tags=notes.tags_of(tags), name=called)
        )

    def pin(self, run_id: str, pinned: bool) -> Note:
        """Let a run stand first in lists, or no longer. Raises RunNotFound, NewerSchema, DiskFull."""
        return self._write_note(run_id, replace(self.note(run_id), pinned=pinned))

    def _write_note(self, run_id: str, note: Note) -> Note:
        self.show(run_id)
        notes.write(self.workspace.run(run_id), note)
        return note

    def distinctions(self, run_ids: Sequence[str]) -> dict[str, str]:
        """For each run, in Japanese, the settings in which it differs from most of these."""
        return differences.distinctions(self.workspace, run_ids)

    def delete(self, run_id: str) -> None:
        """Move a run and all that was made of it to the trash.

        Raises RunNotFound, RunBusy, RunExists, DiskFull.
        """
        trash.delete(self.workspace, run_id)

    def delete_all(self, run_ids: Sequence[str]) -> builtins.list[StudioError]:
        """Move those of these runs to the trash that can be; why the others could not."""
        problems = []
        for run_id in run_ids:
            try:
                self.delete(run_id)
            except StudioError as error:
                problems.append(error)
        return problems

    def restore(self, run_id: str) -> None:
        """Raises RunNotInTrash, RunExists."""
        trash.restore(self.workspace, run_id)

    def deleted(self) -> builtins.list[Deleted]:
        """The trash, what was deleted last first; `machine.clean("trash")` empties it."""
        return trash.list_deleted(self.workspace)
