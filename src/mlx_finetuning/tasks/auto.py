"""おまかせ: a run is trained, evaluated, written and compared, until one can talk to it.

Each stage is a job of its own, with the record and the place that it has when it is started by hand.
This one starts them in turn, follows them and says how far all is; it computes nothing. A stage that
is done stays done, so that a journey which was stopped, or killed, goes on where it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from mlx_finetuning.config import CertifyConfig, EvaluateConfig, ExportConfig
from mlx_finetuning.errors import StudioError
from mlx_finetuning.jobs import jobs, runs, status
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.results import JOURNEY_JA, Journey, journey_stage
from mlx_finetuning.jobs.status import JobState
from mlx_finetuning.language import _
from mlx_finetuning.progress import Step
from mlx_finetuning.quantizer.verify.results import Exported
from mlx_finetuning.utils.time_left import TimeLeft
from mlx_finetuning.workspace import JobPaths


@dataclass(frozen=True)
class _Stage:
    """One job of the journey."""

    kind: str
    settings: Mapping[str, object]
    later_s: float | None
    """What the stages behind it took the last time; None where that is not known of each."""

    @property
    def title(self) -> str:
        """`2/4 確かめる`."""
        number = list(JOURNEY_JA).index(self.kind) + 1
        return f"{number}/{len(JOURNEY_JA)} {journey_stage(self.kind)}"


def run(context: TaskContext) -> Journey:
    """config: `quants`, types of GGUF files, and `prompts`, questions to compare them with.

    Raises what a stage ended with, and Interrupted.
    """
    quants = [str(quant) for quant in context.config["quants"]]
    export = {**asdict(ExportConfig()), "quant": quants, "advise": False, "out": None}
    settings: dict[str, Mapping[str, object]] = {
        "train": {},
        "evaluate": asdict(EvaluateConfig()),
        "export": export,
        "certify": asdict(CertifyConfig(prompts=int(context.config["prompts"]))),
    }
    took_s = _last_took(context)
    ended: dict[str, JobPaths] = {}
    for number, kind in enumerate(JOURNEY_JA):
        later = list(JOURNEY_JA)[number + 1 :]
        later_s = sum(took_s[one] for one in later) if took_s.keys() >= set(later) else None
        ended[kind] = _go_through(context, _Stage(kind, settings[kind], later_s))
    exported = jobs.result(ended["export"], Exported)
    return Journey(
        run_id=context.run_id,
        seconds={kind: status.read(paths).elapsed_s or 0.0 for kind, paths in ended.items()},
        gguf={quant: file.path for quant, file in exported.files.items()},
    )


def _go_through(context: TaskContext, stage: _Stage) -> JobPaths:
    """Start the stage's job, or take up the one that there is, and follow it to its end."""
    if stage.kind == "train":
        paths: JobPaths = context.workspace.run(context.run_id)
        current = status.read(paths)
        if not current.is_living and current.state != JobState.DONE:
            runs.resume(context.workspace, context.run_id)
    else:
        paths = _later(context, stage)
    if status.read(paths).state == JobState.DONE:
        return paths
    time_left = TimeLeft()

    def progress(step: Step) -> None:
        left_s = time_left.after(step)
        # Read with the time left, which comes behind it.
        alone = _("この段階だけで") if left_s is not None and stage.later_s is None else ""
        detail = "　".join(part for part in (step.stage, step.detail, alone) if part)
        if left_s is None:  # counts of other units would be taken for this one's
            context.progress(Step(stage.title, 0, 0, detail))
        else:
            told = replace(step, stage=stage.title, detail=detail)
            context.progress(replace(told, remaining_s=left_s + (stage.later_s or 0.0)))

    jobs.follow(paths, progress, steadily=True)
    return paths


def _later(context: TaskContext, stage: _Stage) -> JobPaths:
    """The job with these settings that works already or is done; a new one if there is none."""
    workspace, run_id = context.workspace, context.run_id
    trained_at = runs.show(workspace, run_id).status.ended_at
    for job in runs.later_jobs(workspace, run_id):
        paths = workspace.run(run_id).later_job(job.name)
        is_useful = job.status.is_living or job.status.state == JobState.DONE
        if job.kind == stage.kind and is_useful and job.status.created_at > trained_at:
            with contextlib.suppress(FileNotFoundError, StudioError):
                if jobs.read_job(paths).config == dict(stage.settings):
                    return paths
    return runs.start_later_job(workspace, run_id, stage.kind, stage.settings)


def _last_took(context: TaskContext) -> Mapping[str, float]:
    """Seconds that the stages behind the training took when they were last done for this model."""
    workspace = context.workspace
    model = runs.show(workspace, context.run_id).model
    took_s: dict[str, float] = {}
    for other in runs.list_runs(workspace):
        if other.model == model:
            for job in runs.later_jobs(workspace, other.run_id):
                if job.status.state == JobState.DONE and job.status.elapsed_s:
                    took_s.setdefault(job.kind, job.status.elapsed_s)
    return took_s
