"""Tuned against base model, and written models against the trained one."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning import config, files, models
from mlx_finetuning.config import CertifyConfig, EvaluateConfig, as_dict
from mlx_finetuning.errors import RunNotEvaluated, StudioError
from mlx_finetuning.experiment_tracker.evaluation import batch_test
from mlx_finetuning.experiment_tracker.evaluation.batch_test import BatchAnswer, BatchTest
from mlx_finetuning.experiment_tracker.evaluation.results import Report, Verdict
from mlx_finetuning.experiment_tracker.records import marks
from mlx_finetuning.jobs import runs
from mlx_finetuning.jobs.results import Certificate
from mlx_finetuning.studio.data import Data
from mlx_finetuning.studio.handle import JobHandle
from mlx_finetuning.workspace import Workspace


@dataclass(frozen=True)
class Evaluation:
    """`studio.evaluation`."""

    workspace: Workspace

    def start(self, run_id: str, settings: EvaluateConfig | None = None) -> JobHandle[Report]:
        """Compare base and tuned model on held-out rows; the result is what `report` reads later.

        Raises RunError, InvalidSettings, DiskFull.
        """
        checked = config.load(EvaluateConfig, as_dict(settings or EvaluateConfig()))
        paths = runs.start_later_job(self.workspace, run_id, "evaluate", as_dict(checked))
        return JobHandle(paths, Report)

    def report(self, run_id: str) -> Report | None:
        """The latest evaluation's report, or None. Raises RecordDamaged, NewerSchema."""
        with contextlib.suppress(FileNotFoundError):
            return files.read_record(self.workspace.run(run_id).report, Report)
        return None

    def first_line(self, run_id: str) -> Verdict | None:
        """What the latest evaluation came to, in a line; None before one, or where it cannot be read."""
        with contextlib.suppress(StudioError):
            report = self.report(run_id)
            return None if report is None else report.first_line
        return None

    def summary(self, run_id: str) -> str:
        """The latest evaluation on one A4 page, as HTML.

        Raises RunNotFound, RunNotEvaluated, RecordDamaged, NewerSchema.
        """
        from mlx_finetuning.experiment_tracker.evaluation import summary_html

        runs.show(self.workspace, run_id)
        report = self.report(run_id)
        if report is None:
            raise RunNotEvaluated(run_id=run_id)
        sources: list[str] = []
        if not report.origin.dataset_changed:
            with contextlib.suppress(StudioError):  # the dataset is gone, or cannot be read
                recorded = Data(self.workspace).manifest(report.dataset)
                sources = [path.name for path in recorded.sources]
        entry = models.find(report.model)
        licence = "" if entry is None else entry.licence
        return summary_html.page(report, summary_html.Background(sources, licence))

    def page(self, run_id: str) -> str:
        """The whole report of the latest evaluation, as HTML. Raises RunNotFound, RunNotEvaluated."""
        runs.show(self.workspace, run_id)
        try:
            return self.workspace.run(run_id).report_html.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise RunNotEvaluated(run_id=run_id) from None

    def write_pages(self, run_id: str, folder: Path) -> list[Path]:
        """The A4 page and the whole report as files of `folder`.

        Raises RunNotFound, RunNotEvaluated, RecordDamaged, NewerSchema, DiskFull.
        """
        files.make_folder(folder)
        written = []
        for name, made in (("summary", self.summary(run_id)), ("report", self.page(run_id))):
            path = folder / f"{run_id}-{name}.html"
            files.write_text(path, made)
            written.append(path)
        return written

    def batch_test(
        self, run_id: str, settings: EvaluateConfig | None = None
    ) -> JobHandle[BatchTest]:
        """Put all questions of the run's dataset to the tuned model.

        `answers` has what it said, while the job goes on too. Raises RunError, InvalidSettings, DiskFull.
        """
        checked = config.load(EvaluateConfig, as_dict(settings or EvaluateConfig()))
        paths = runs.start_later_job(self.workspace, run_id, "batch_test", as_dict(checked))
        return JobHandle(paths, BatchTest)

    def answers(self, run_id: str) -> list[BatchAnswer]:
        """What the run's latest batch test was told so far, in the order of the dataset's rows; what
        people said of an answer holds."""
        for job in runs.later_jobs(self.workspace, run_id):
            if job.kind == "batch_test":
                log = self.workspace.run(run_id).later_job(job.name).answers
                said = batch_test.judged(
                    files.read_records(log, BatchAnswer),
                    marks.read(self.workspace.run(run_id)).said,
                )
                return sorted(said, key=lambda one: (one.row, one.prompt))
        return []

    def certify(self, run_id: str, settings: CertifyConfig | None = None) -> JobHandle[Certificate]:
        """Compare every written model of the run with the trained one, answer by answer.

        The result is what `certificate` reads later. Raises RunError, InvalidSettings, DiskFull.
        """
        checked = config.load(CertifyConfig, as_dict(settings or CertifyConfig()))
        paths = runs.start_later_job(self.workspace, run_id, "certify", as_dict(checked))
        return JobHandle(paths, Certificate)

    def certificate(self, run_id: str) -> Certificate | None:
        """The latest certificate, or None. Raises RecordDamaged, NewerSchema."""
        with contextlib.suppress(FileNotFoundError):
            return files.read_record(self.workspace.run(run_id).certificate, Certificate)
        return None
