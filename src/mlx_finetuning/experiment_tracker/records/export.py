"""A run's records for other programs: CSV, TensorBoard's event files, or an MLflow store.

`content` gathers what is handed on, once for all formats. No weights are among it.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mlx_finetuning import config, files
from mlx_finetuning.errors import ConfigFileUnreadable, MlflowNotInstalled, TensorboardNotInstalled
from mlx_finetuning.experiment_tracker.records import notes
from mlx_finetuning.experiment_tracker.records.notes import Note
from mlx_finetuning.files import JsonObject
from mlx_finetuning.jobs import runs
from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.workspace import Workspace

_EXPERIMENT = "mlx-finetuning"
_LONGEST, _BATCH = 500, 1000
"""What MLflow takes: characters of a parameter, metrics of a batch."""
_ALSO_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet may run if a cell begins with it."""


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

    def scalars(self) -> Iterator[Scalars]:
        """The metrics as numbers by name, each line at its time."""
        for line in self.metrics:
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


def is_installed(form: str) -> bool:
    """Whether the package that writes a format is here; CSV needs none."""
    return form == "csv" or importlib.util.find_spec(form) is not None


def write(content: RunRecords, format_name: str, folder: Path) -> list[Path]:
    """Write the files of a format into `folder`, which may exist; returns what was written.

    Raises TensorboardNotInstalled, MlflowNotInstalled, DiskFull.
    """
    return FORMATS[format_name](content, files.make_folder(folder))


# --- CSV ---------------------------------------------------------------------------------


def tables(content: RunRecords) -> dict[str, str]:
    """The CSV files by name. Texts that a spreadsheet would run as formulas are neutralised."""
    # One row per update: a validation stands beside the update it follows.
    by_update: dict[int, JsonObject] = {}
    for line in content.metrics:
        by_update.setdefault(line["update"], {}).update(line)
    return {
        "metrics.csv": _table(list(by_update.values())),
        "settings.csv": _table(
            [{"設定": name, "値": value} for name, value in content.facts.items()]
        ),
        "samples.csv": _table(content.samples),
    }


def archive(content: RunRecords) -> bytes:
    """The CSV files as one ZIP file, as a browser saves it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as target:
        for name, text in tables(content).items():
            target.writestr(name, text.encode("utf-8-sig"))
    return stream.getvalue()


def cell(value: object) -> str | float:
    """A value as it stands in a table; a text that begins like a formula gets an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, int | float):
        return value
    text = str(value)
    return f"'{text}" if text.startswith(_ALSO_FORMULAS) else text


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow([cell(name) for name in names])
    writer.writerows([cell(row.get(name)) for name in names] for row in rows)
    return stream.getvalue()


def _write_csv(content: RunRecords, folder: Path) -> list[Path]:
    paths = []
    for name, text in tables(content).items():
        # The mark tells Excel that it is UTF-8.
        files.write_text(folder / name, f"\ufeff{text}")
        paths.append(folder / name)
    return paths


# --- TensorBoard -------------------------------------------------------------------------


def _write_tensorboard(content: RunRecords, folder: Path) -> list[Path]:
    """An event file, to be looked at with `tensorboard --logdir`."""
    if not is_installed("tensorboard"):
        raise TensorboardNotInstalled()
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    # TensorBoard knows its files by their names.
    path = folder / f"events.out.tfevents.{int(content.started_s)}.{content.run.run_id}"
    events = [Event(wall_time=content.started_s, file_version="brain.Event:2")]
    for line in content.scalars():
        values = [Summary.Value(tag=name, simple_value=item) for name, item in line.values.items()]
        summary = Summary(value=values)
        events.append(Event(wall_time=line.wall_time_s, step=line.step, summary=summary))
    with files.replacing(path) as stream:
        writer = RecordWriter(stream)
        for event in events:
            writer.write(event.SerializeToString())
    return [path]


# --- MLflow ------------------------------------------------------------------------------


def _write_mlflow(content: RunRecords, folder: Path) -> list[Path]:
    """A local store, to be opened with `mlflow ui --backend-store-uri sqlite:///…/mlflow.db`."""
    if not is_installed("mlflow"):
        raise MlflowNotInstalled()
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.tracking import MlflowClient

    path = folder / "mlflow.db"
    client = MlflowClient(tracking_uri=f"sqlite:///{path.absolute()}")
    experiment = client.get_experiment_by_name(_EXPERIMENT)
    experiment_id = (
        experiment.experiment_id if experiment else client.create_experiment(_EXPERIMENT)
    )
    run = client.create_run(
        experiment_id, int(content.started_s * 1000), run_name=content.run.run_id
    )
    params = [Param(name, str(value)[:_LONGEST]) for name, value in content.facts.items()]
    tags = [RunTag(tag, "1") for tag in content.note.tags]
    client.log_batch(run.info.run_id, params=params, tags=tags)
    metrics = [
        Metric(name, value, int(line.wall_time_s * 1000), line.step)
        for line in content.scalars()
        for name, value in line.values.items()
    ]
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run.info.run_id, metrics=metrics[start : start + _BATCH])
    client.set_terminated(run.info.run_id)
    return [path]


FORMATS: dict[str, Callable[[RunRecords, Path], list[Path]]] = {
    "csv": _write_csv,
    "tensorboard": _write_tensorboard,
    "mlflow": _write_mlflow,
}
