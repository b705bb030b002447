"""A run's settings and metrics in the formats of other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning.experiment_tracker.records import export
from mlx_finetuning.jobs import runs
from mlx_finetuning.workspace import Workspace


@dataclass(frozen=True)
class Records:
    """`studio.records`."""

    workspace: Workspace

    def formats(self) -> tuple[str, ...]:
        """Those of csv, tensorboard and mlflow that can be written here."""
        return tuple(form for form in export.FORMATS if form != "mlflow" or export.has_mlflow())

    def write(self, run_id: str, form: str, folder: Path) -> list[Path]:
        """Write settings and metrics for other programs: csv, tensorboard or mlflow.

        Raises RunNotFound, MlflowNotInstalled, DiskFull.
        """
        return export.write(export.content(self.workspace, run_id), form, folder)

    def csv(self, run_id: str) -> bytes:
        """The CSV files as one ZIP file. Raises RunNotFound."""
        return export.archive(export.content(self.workspace, run_id))

    def events(self, run_id: str) -> bytes:
        """TensorBoard's event file. Raises RunNotFound."""
        return export.events(export.content(self.workspace, run_id))

    def event_file_name(self, run_id: str) -> str:
        """TensorBoard knows its files by their names. Raises RunNotFound."""
        return export.event_file_name(runs.show(self.workspace, run_id))
