"""What works or waits now, and what became of earlier jobs."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import dataclass

from mlx_finetuning import files
from mlx_finetuning.files import Record
from mlx_finetuning.jobs import jobs, queue, runs, status
from mlx_finetuning.jobs.queue import LivingJob
from mlx_finetuning.jobs.runs import LaterJob
from mlx_finetuning.jobs.status import JobStatus
from mlx_finetuning.workspace import JobPaths, Workspace


@dataclass(frozen=True)
class Jobs:
    """`studio.jobs`. An empty `run_id` stands for the jobs that belong to no run."""

    workspace: Workspace

    def is_device_busy(self) -> bool:
        """Whether a training or another long job computes now, so that answers take longer."""
        return files.is_locked(self.workspace.device_lock)

    def living(self) -> builtins.list[LivingJob]:
        """What works or waits now, the oldest first."""
        return queue.living_jobs(self.workspace)

    def before(self, run_id: str) -> builtins.list[LivingJob]:
        """What has the device, or its turn, before the run's training."""
        return queue.before(self.workspace, self.workspace.run(run_id))

    def end(self, job: LivingJob) -> bool:
        """End a job at once, whatever it hangs in; True once nobody works on it any more."""
        return jobs.end(job.paths)

    def list(self, run_id: str) -> builtins.list[LaterJob]:
        """The run's evaluations, exports and conversations, the newest first."""
        return runs.later_jobs(self.workspace, run_id)

    def status(self, run_id: str, name: str) -> JobStatus:
        """Of one of the run's later jobs. Raises FileNotFoundError, RecordDamaged, NewerSchema."""
        return status.read(self._paths(run_id, name))

    def result(self, run_id: str, name: str, kind: type[Record]) -> Record:
        """What a later job that is done came to. Raises RecordDamaged, NewerSchema."""
        return jobs.result(self._paths(run_id, name), kind)

    def settings(self, run_id: str, name: str) -> Mapping[str, object]:
        """What a later job was asked for. Raises FileNotFoundError, RecordDamaged, NewerSchema."""
        return jobs.read_job(self._paths(run_id, name)).config

    def stop(self, run_id: str, name: str) -> None:
        """Ask one of the run's later jobs to stop; returns at once."""
        jobs.request_stop(self._paths(run_id, name))

    def _paths(self, run_id: str, name: str) -> JobPaths:
        return self.workspace.run(run_id).later_job(name) if run_id else self.workspace.job(name)
