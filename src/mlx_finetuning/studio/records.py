"""A run's settings and metrics in the formats of other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning.experiment_tracker.records import export
from mlx_finetuning.workspace import Workspace


@dataclass(frozen=True)
class Records:
    """`studio.records`."""

    workspace: Workspace

    def formats(self) -> tuple[str, ...]:
        """Those of csv, tensorboard and mlflow that can be written here."""
        return tuple(filter(export.is_installed, export.FORMATS))

    def write(self, run_id: str, form: str, folder: Path) -> list[Path]:
        """Write settings and metrics for other programs: csv, tensorboard or mlflow.

        Raises RunNotFound, TensorboardNotInstalled, MlflowNotInstalled, DiskFull.
        """
        return export.write(export.content(self.workspace, run_id), form, folder)

    def csv(self, run_id: str) -> bytes:
        """The CSV files as one ZIP file. Raises RunNotFound."""
        return export.archive(export.content(self.workspace, run_id))
