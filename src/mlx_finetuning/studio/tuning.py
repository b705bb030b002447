"""Finding the settings: a few short, comparable runs, then one with the best of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlx_finetuning import bases, config
from mlx_finetuning.config import TrainConfig, as_dict
from mlx_finetuning.errors import InvalidSettings, TuningNotFound
from mlx_finetuning.jobs import jobs, runs, status
from mlx_finetuning.jobs.jobs import Job
from mlx_finetuning.jobs.results import Tuned
from mlx_finetuning.jobs.runs import LaterJob
from mlx_finetuning.language import _
from mlx_finetuning.studio.data import Data
from mlx_finetuning.studio.handle import JobHandle
from mlx_finetuning.workspace import Workspace

KIND = "tune"
MINUTES = (5, 15, 60)
"""That people are offered."""


@dataclass(frozen=True)
class Tuning:
    """`studio.tuning`. A tuning is named by its job, which belongs to no run."""

    workspace: Workspace

    def start(
        self, settings: TrainConfig, minutes: float, journey: Mapping[str, object] | None = None
    ) -> str:
        """Find settings around the usual ones within so many minutes; returns the tuning's name.

        journey: what おまかせ is to make of the last run, as `studio.auto` says it.

        Raises InvalidSettings, DatasetNotFound, ModelError, DiskFull.
        """
        checked = bases.settled(config.load(TrainConfig, as_dict(settings)))
        data = Data(self.workspace)
        data.require(checked.dataset)
        goal = data.goal(checked.dataset) or "faq"
        problems = []
        if checked.engine != "mlx":
            problems.append(
                _("engine: 設定を探せるのは mlx だけです（今の設定: {engine}）。").format(
                    engine=checked.engine
                )
            )
        if checked.method == "full":
            problems.append(_("method: 設定を探せるのは lora と dora です（今の設定: full）。"))
        if goal == "preference":
            problems.append(_("dataset: 好みの比較では、設定を探せません。"))
        if checked.hosts or checked.ranks > 1:
            problems.append(_("hosts, ranks: いくつもの機械に分けるときは、設定を探せません。"))
        if checked.continues:
            problems.append(_("continues: 続きの学習では、設定を探せません。"))
        if minutes <= 0:
            problems.append(_("minutes: 0より大きい数にしてください。"))
        if problems:
            raise InvalidSettings(problems=problems)
        bases.resolve(checked.model, self.workspace)
        name = jobs.new_name(KIND)
        details = {
            "settings": as_dict(checked),
            "seconds": 60 * minutes,
            "goal": goal,
            "journey": journey,
        }
        jobs.launch(self.workspace.job(name), Job(KIND, str(self.workspace.root), "", details))
        return name

    def resume(self, name: str) -> None:
        """Let a tuning that was stopped go on with the trial it was in; one that goes on, or is done,
        stays as it is. Raises TuningNotFound, DiskFull."""
        handle = self.follow(name)
        current = status.read(handle.paths)
        if not current.is_living and current.state != "done":
            jobs.relaunch(handle.paths)

    def latest(self) -> LaterJob | None:
        """The newest of the workspace."""
        return next((job for job in runs.later_jobs(self.workspace, "") if job.kind == KIND), None)

    def follow(self, name: str) -> JobHandle[Tuned]:
        """The tuning as a job. Raises TuningNotFound, InvalidName."""
        paths = self.workspace.job(name)
        if not paths.job.is_file() or jobs.read_job(paths).kind != KIND:
            raise TuningNotFound(name=name)
        return JobHandle(paths, Tuned)
