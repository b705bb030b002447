"""おまかせ: from a dataset to a model that one can talk to, in one go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlx_finetuning import config
from mlx_finetuning.config import CertifyConfig, ExportConfig, TrainConfig
from mlx_finetuning.errors import InvalidSettings, JourneyNotFound
from mlx_finetuning.jobs import jobs, runs
from mlx_finetuning.jobs.jobs import Job
from mlx_finetuning.jobs.results import Journey
from mlx_finetuning.jobs.runs import LaterJob
from mlx_finetuning.language import _
from mlx_finetuning.studio.handle import JobHandle
from mlx_finetuning.studio.training import Training
from mlx_finetuning.studio.tuning import Tuning
from mlx_finetuning.workspace import Workspace

KIND = "auto"


@dataclass(frozen=True)
class Auto:
    """`studio.auto`. A journey is named by its run, and is one of the run's later jobs."""

    workspace: Workspace

    def start(
        self,
        settings: TrainConfig,
        quants: Sequence[str] = (ExportConfig.quant,),
        prompts: int = CertifyConfig.prompts,
    ) -> str:
        """Start a run that is trained, evaluated, written as GGUF files of these types and compared
        with them on so many questions; returns the run's id.

        Raises InvalidSettings, DatasetNotFound, ModelError, DiskFull.
        """
        details = _checked(quants, prompts)
        if settings.engine != "mlx":
            problem = _("engine: おまかせで使えるのは mlx だけです（今の設定: {engine}）。").format(
                engine=settings.engine
            )
            raise InvalidSettings(problems=[problem])
        run_id = Training(self.workspace).start(settings)
        paths = self.workspace.run(run_id).later_job(jobs.new_name(KIND))
        jobs.launch(paths, Job(KIND, str(self.workspace.root), run_id, details))
        return run_id

    def start_tuned(
        self,
        settings: TrainConfig,
        minutes: float,
        quants: Sequence[str] = (ExportConfig.quant,),
        prompts: int = CertifyConfig.prompts,
    ) -> str:
        """Find the settings first, within so many minutes; returns the tuning's name. Its last run gets
        the journey. Raises what `Tuning.start` raises."""
        return Tuning(self.workspace).start(settings, minutes, _checked(quants, prompts))

    def resume(self, run_id: str) -> None:
        """Let a journey that was stopped go on with the stage it was in; one that goes on, or is
        done, stays as it is. Raises RunNotFound, JourneyNotFound, DiskFull."""
        journey = self._require(run_id)
        if not journey.status.is_living and journey.status.state != "done":
            jobs.relaunch(self.workspace.run(run_id).later_job(journey.name))

    def follow(self, run_id: str) -> JobHandle[Journey]:
        """The run's journey as a job. Raises RunNotFound, JourneyNotFound."""
        paths = self.workspace.run(run_id).later_job(self._require(run_id).name)
        return JobHandle(paths, Journey)

    def latest(self, run_id: str) -> LaterJob | None:
        """The run's journey; None where its stages are started by hand."""
        later = runs.later_jobs(self.workspace, run_id)
        return next((job for job in later if job.kind == KIND), None)

    def _require(self, run_id: str) -> LaterJob:
        runs.show(self.workspace, run_id)
        journey = self.latest(run_id)
        if journey is None:
            raise JourneyNotFound(run_id=run_id)
        return journey


def _checked(quants: Sequence[str], prompts: int) -> dict[str, object]:
    """What a journey's job is told. Raises InvalidSettings."""
    for quant in quants:
        config.load(ExportConfig, {"quant": quant})
    config.load(CertifyConfig, {"prompts": prompts})
    return {"quants": list(quants), "prompts": prompts}
