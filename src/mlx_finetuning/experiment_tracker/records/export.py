"""A run's records for other programs: CSV, TensorBoard's event files, or an MLflow store.

`content` gathers what is handed on, once for all formats. No weights are among it.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mlx_finetuning import config, files
from mlx_finetuning.errors import ConfigFileUnreadable, MlflowNotInstalled
from mlx_finetuning.experiment_tracker.records import event_file, notes
from mlx_finetuning.experiment_tracker.records.notes import Note
from mlx_finetuning.jobs import runs
from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.workspace import Workspace

_ALSO_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet may run if a cell begins with it."""


@dataclass(frozen=True)
class Content:
    run: Run
    settings: dict[str, Any]
    metrics: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    note: Note


def content(workspace: Workspace, run_id: str) -> Content:
    """What is handed on of a run; what cannot be read is left out. Raises RunNotFound."""
    paths = workspace.run(run_id)
    run = runs.show(workspace, run_id)
    settings: dict[str, Any] = {}
    with contextlib.suppress(ConfigFileUnreadable):
        settings = config.read_yaml(paths.config)
    lines = files.read_lines(paths.metrics)
    metrics = [line for line in lines if isinstance(line.get("update"), int)]
    samples = list(files.read_lines(paths.samples))
    return Content(run, settings, metrics, samples, notes.read_or_empty(paths))


def write(found: Content, form: str, folder: Path) -> list[Path]:
    """Write the files of a format into `folder`, which may exist; returns what was written.

    Raises MlflowNotInstalled, DiskFull.
    """
    return FORMATS[form](found, files.make_folder(folder))


# --- CSV ---------------------------------------------------------------------------------


def tables(found: Content) -> dict[str, str]:
    """The CSV files by name. Texts that a spreadsheet would run as formulas are neutralised."""
    settings = [{"設定": name, "値": value} for name, value in _facts(found).items()]
    return {
        "metrics.csv": _table(_by_update(found.metrics)),
        "settings.csv": _table(settings),
        "samples.csv": _table(found.samples),
    }


def archive(found: Content) -> bytes:
    """The CSV files as one ZIP file, as a browser saves it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as target:
        for name, text in tables(found).items():
            target.writestr(name, text.encode("utf-8-sig"))
    return stream.getvalue()


def cell(value: Any) -> Any:
    """A value as it stands in a table; a text that begins like a formula gets an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, int | float):
        return value
    text = str(value)
    return f"'{text}" if text.startswith(_ALSO_FORMULAS) else text


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow([cell(name) for name in names])
    writer.writerows([cell(row.get(name)) for name in names] for row in rows)
    return stream.getvalue()


def _by_update(metrics: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per update: a validation stands beside the update it follows."""
    rows: dict[Any, dict[str, Any]] = {}
    for line in metrics:
        rows.setdefault(line["update"], {}).update(line)
    return list(rows.values())


def _facts(found: Content) -> dict[str, Any]:
    run = found.run
    origins = {
        "run_id": run.run_id,
        "created_at": run.created_at,
        "dataset_sha256": run.dataset_sha256,
        "model_fingerprint": run.model_fingerprint,
        **{f"versions.{name}": version for name, version in run.versions.items()},
    }
    return {**origins, **found.settings, "note": found.note.text, "tags": " ".join(found.note.tags)}


def _write_csv(found: Content, folder: Path) -> list[Path]:
    written = []
    for name, text in tables(found).items():
        # The mark tells Excel that it is UTF-8.
        files.write_text(folder / name, f"\ufeff{text}")
        written.append(folder / name)
    return written


# --- TensorBoard -------------------------------------------------------------------------


def events(found: Content) -> bytes:
    """The metrics as TensorBoard's event file."""
    began_s = _began_s(found.run)
    lines = (
        event_file.Scalars(began_s + _elapsed_s(line), line["update"], _numbers(line))
        for line in found.metrics
    )
    return event_file.content(began_s, lines)


def event_file_name(run: Run) -> str:
    return f"events.out.tfevents.{int(_began_s(run))}.{run.run_id}"


def _write_events(found: Content, folder: Path) -> list[Path]:
    path = folder / event_file_name(found.run)
    with files.replacing(path) as stream:
        stream.write(events(found))
    return [path]


def _numbers(line: Mapping[str, Any]) -> dict[str, float]:
    known = ("update", "elapsed_s", "simulated")
    numbers = {name: value for name, value in line.items() if isinstance(value, int | float)}
    return {name: float(value) for name, value in numbers.items() if name not in known}


def _elapsed_s(line: Mapping[str, Any]) -> float:
    return float(line.get("elapsed_s") or 0.0)


def _began_s(run: Run) -> float:
    """Seconds since 1970; 0 where the record has no time."""
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(run.created_at).timestamp()
    return 0.0


# --- MLflow ------------------------------------------------------------------------------


def has_mlflow() -> bool:
    return importlib.util.find_spec("mlflow") is not None


def _write_mlflow(found: Content, folder: Path) -> list[Path]:
    """A local store, to be opened with `mlflow ui --backend-store-uri sqlite:///…/mlflow.db`."""
    if not has_mlflow():
        raise MlflowNotInstalled()
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.tracking import MlflowClient

    path = folder / "mlflow.db"
    client = MlflowClient(tracking_uri=f"sqlite:///{path.absolute()}")
    known = client.get_experiment_by_name(_EXPERIMENT)
    group = known.experiment_id if known else client.create_experiment(_EXPERIMENT)
    began_s = _began_s(found.run)
    run = client.create_run(group, _ms(began_s), run_name=found.run.run_id)
    params = [Param(name, str(value)[:_LONGEST]) for name, value in _facts(found).items()]
    client.log_batch(run.info.run_id, params=params, tags=[RunTag(t, "1") for t in found.note.tags])
    points = [
        Metric(name, value, _ms(began_s + _elapsed_s(line)), line["update"])
        for line in found.metrics
        for name, value in _numbers(line).items()
    ]
    for start in range(0, len(points), _BATCH):
        client.log_batch(run.info.run_id, metrics=points[start : start + _BATCH])
    client.set_terminated(run.info.run_id)
    return [path]


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


_EXPERIMENT = "mlx-finetuning"
_LONGEST, _BATCH = 500, 1000
"""What MLflow takes: characters of a parameter, metrics of a batch."""

FORMATS: dict[str, Callable[[Content, Path], list[Path]]] = {
    "csv": _write_csv,
    "tensorboard": _write_events,
    "mlflow": _write_mlflow,
}
