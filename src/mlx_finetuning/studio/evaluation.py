"""Tuned against base model, and written models against the trained one."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from mlx_finetuning import config, files
from mlx_finetuning.config import CertifyConfig, EvaluateConfig, as_dict
from mlx_finetuning.errors import StudioError
from mlx_finetuning.experiment_tracker.evaluation.results import Report, Verdict
from mlx_finetuning.jobs import runs
from mlx_finetuning.jobs.results import Certificate
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
