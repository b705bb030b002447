"""What is handed on of a run to other programs, gathered once for all of them. No weights are among it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from mlx_finetuning import config, files
from mlx_finetuning.errors import ConfigFileUnreadable
from mlx_finetuning.experiment_tracker.records import notes
from mlx_finetuning.experiment_tracker.records.notes import Note
from mlx_finetuning.files import JsonObject
from mlx_finetuning.jobs import runs
from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.workspace import Workspace


@dataclass(frozen=True)
class Scalars:
    """What was measured at one step."""

    wall_time_s: float
    """Since 1970."""
    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class RunRecords:
    """What is handed on of a run."""

    run: Run
    settings: Mapping[str, object]
    metrics: list[JsonObject]
    """Whole lines, whatever columns they have; `samples` too."""
    samples: list[JsonObject]
    note: Note

    @property
    def started_s(self) -> float:
        """Seconds since 1970; 0 where the record has no time."""
        with contextlib.suppress(ValueError):
            return datetime.fromisoformat(self.run.created_at).timestamp()
        return 0.0

    @property
    def facts(self) -> dict[str, object]:
        """Where the run comes from, its settings and its note."""
        return {
            "run_id": self.run.run_id,
            "created_at": self.run.created_at,
            "dataset_sha256": self.run.dataset_sha256,
            "model_fingerprint": self.run.model_fingerprint,
            **{f"versions.{name}": version for name, version in self.run.versions.items()},
            **self.settings,
            "note": self.note.text,
            "tags": " ".join(self.note.tags),
        }

    def scalars(self, lines: Iterable[JsonObject] | None = None) -> Iterator[Scalars]:
        """The metrics, or other lines of their log, as numbers by name, each line at its time."""
        for line in self.metrics if lines is None else lines:
            values = {
                name: float(value)
                for name, value in line.items()
                if isinstance(value, int | float)
                and name not in ("update", "elapsed_s", "simulated")
            }
            time_s = self.started_s + float(line.get("elapsed_s") or 0.0)
            yield Scalars(time_s, line["update"], values)


def content(workspace: Workspace, run_id: str) -> RunRecords:
    """What is handed on of a run; what cannot be read is left out. Raises RunNotFound."""
    paths = workspace.run(run_id)
    run = runs.show(workspace, run_id)
    settings: Mapping[str, object] = {}
    with contextlib.suppress(ConfigFileUnreadable):
        settings = config.read_yaml(paths.config)
    lines = files.read_lines(paths.metrics)
    metrics = [line for line in lines if isinstance(line.get("update"), int)]
    samples = list(files.read_lines(paths.samples))
    return RunRecords(run, settings, metrics, samples, notes.read_or_empty(paths))
