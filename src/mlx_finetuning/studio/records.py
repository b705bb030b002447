"""What a run made and what was measured of it, for other people and programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning.errors import InvalidSettings
from mlx_finetuning.experiment_tracker.records import content, export
from mlx_finetuning.jobs import jobs, runs
from mlx_finetuning.jobs.results import Shared
from mlx_finetuning.jobs.status import JobState
from mlx_finetuning.language import _
from mlx_finetuning.models import hub
from mlx_finetuning.studio.handle import JobHandle
from mlx_finetuning.workspace import Workspace


@dataclass(frozen=True)
class Records:
    """`studio.records`."""

    workspace: Workspace

    def formats(self) -> tuple[str, ...]:
        """Those that can be written here: csv, and the trackers that are installed."""
        return tuple(filter(export.is_writable, export.FORMATS))

    def write(self, run_id: str, form: str, folder: Path) -> list[Path]:
        """Write settings and metrics for other programs: csv, or a tracker by its name.

        Raises RunNotFound, TrackerNotInstalled, DiskFull.
        """
        return export.write(content.content(self.workspace, run_id), form, folder)

    def csv(self, run_id: str) -> bytes:
        """The CSV files as one ZIP file. Raises RunNotFound."""
        return export.archive(content.content(self.workspace, run_id))

    def share(self, run_id: str, out: Path) -> JobHandle[Shared]:
        """Gather adapter, written models and a card into `out`: a folder, or a file that ends in .zip.

        Raises RunError, DiskFull; following it, ModelError, NotEnoughSpace, Interrupted.
        """
        details = {"out": str(out.expanduser().absolute()), "repository": "", "public": False}
        return JobHandle(runs.start_later_job(self.workspace, run_id, "share", details), Shared)

    def last_shared(self, run_id: str) -> Shared | None:
        """What the run's last finished sharing gave out; None before one."""
        for job in runs.later_jobs(self.workspace, run_id):
            if job.kind == "share" and job.status.state == JobState.DONE:
                return jobs.result(self.workspace.run(run_id).later_job(job.name), Shared)
        return None

    def publish(self, run_id: str, repository: str, *, public: bool = False) -> JobHandle[Shared]:
        """The same into a repository of the hub, which only its owner can see unless `public`.

        Raises RunError, InvalidSettings, HubTokenMissing, DiskFull; following it, ModelError,
        Interrupted.
        """
        if not hub.REPO_ID.fullmatch(repository):
            problem = _(
                "repository: 「ユーザー名/名前」の形にしてください（今の値: {repository}）。"
            ).format(repository=repository)
            raise InvalidSettings(problems=[problem])
        hub.require_token()
        details = {"out": None, "repository": repository, "public": public}
        return JobHandle(runs.start_later_job(self.workspace, run_id, "share", details), Shared)
