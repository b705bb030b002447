"""Other programs that keep a run's records, each through its own library, on this machine only.

A tracker is opened for a run, told of points, and finished. `tracking` does that while a run trains,
`export` once with all that a run has logged.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from mlx_finetuning import files
from mlx_finetuning.errors import TrackerNotInstalled
from mlx_finetuning.experiment_tracker.records.content import RunRecords, Scalars

PROJECT = "mlx-finetuning"
LONGEST, BATCH = 500, 1000
"""What MLflow takes: characters of a parameter, metrics of a batch."""
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
"""By themselves some of the libraries tell their makers that they are used."""


class Tracker(Protocol):
    """A run in another program's records."""

    @property
    def path(self) -> Path:
        """The file or folder that holds it."""
        ...

    def log(self, points: Sequence[Scalars]) -> None:
        """Keep these, which follow those before."""
        ...

    def finish(self, *, failed: bool = False) -> None:
        """Write what is not written yet; nothing can be logged afterwards."""
        ...


@dataclass(frozen=True)
class Kind:
    """A program that can be a tracker."""

    title: str
    package: str
    """What is imported; its name is also that of our extra."""
    open: Callable[[RunRecords, Path, bool], Tracker]
    """Of a run, with its records in a folder; True if the run goes on where it was before."""


def is_installed(name: str) -> bool:
    """Whether a tracker's package is here."""
    return importlib.util.find_spec(TRACKERS[name].package) is not None


def require_installed(names: Sequence[str]) -> None:
    """Raises TrackerNotInstalled."""
    for name in names:
        if not is_installed(name):
            raise TrackerNotInstalled(title=TRACKERS[name].title, extra=name)


def open_tracker(name: str, content: RunRecords, folder: Path, *, resumed: bool = False) -> Tracker:
    """Begin to keep a run's records in `folder`. Raises TrackerNotInstalled, DiskFull."""
    require_installed([name])
    os.environ.update(QUIET)
    return TRACKERS[name].open(content, files.make_folder(folder), resumed)


@dataclass(frozen=True)
class _TensorBoard:
    """An event file, to be looked at with `tensorboard --logdir`."""

    path: Path
    stream: IO[bytes]
    writer: Any

    @staticmethod
    def open(content: RunRecords, folder: Path, resumed: bool) -> _TensorBoard:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        # A folder is a run to TensorBoard, and a file with such a name a sitting of it.
        own = files.make_folder(folder / content.run.run_id)
        stem = f"events.out.tfevents.{int(content.started_s)}.{content.run.run_id}"
        sittings = list(own.glob(f"{stem}*"))
        if not resumed:
            for old in sittings:
                old.unlink()
        path = own / (f"{stem}.{len(sittings)}" if resumed and sittings else stem)
        with files.disk_errors(path):
            stream = path.open("wb")
        made = _TensorBoard(path, stream, RecordWriter(stream))
        made.write([Event(wall_time=content.started_s, file_version="brain.Event:2")])
        return made

    def log(self, points: Sequence[Scalars]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        events = []
        for point in points:
            values = [Summary.Value(tag=tag, simple_value=v) for tag, v in point.values.items()]
            summary = Summary(value=values)
            events.append(Event(wall_time=point.wall_time_s, step=point.step, summary=summary))
        self.write(events)

    def write(self, events: Sequence[Any]) -> None:
        with files.disk_errors(self.path):
            for event in events:
                self.writer.write(event.SerializeToString())
            self.stream.flush()

    def finish(self, *, failed: bool = False) -> None:
        with files.disk_errors(self.path):
            self.stream.close()


@dataclass(frozen=True)
class _Mlflow:
    """A local store, to be opened with `mlflow ui --backend-store-uri sqlite:///…/mlflow.db`."""

    path: Path
    client: Any
    mlflow_id: str

    @staticmethod
    def open(content: RunRecords, folder: Path, resumed: bool) -> _Mlflow:
        from mlflow.entities import Param, RunTag
        from mlflow.tracking import MlflowClient

        path = folder / "mlflow.db"
        client = MlflowClient(tracking_uri=f"sqlite:///{path.absolute()}")
        experiment = client.get_experiment_by_name(PROJECT)
        experiment_id = (
            experiment.experiment_id if experiment else client.create_experiment(PROJECT)
        )
        if resumed:
            named = f"attributes.run_name = '{content.run.run_id}'"
            for known in client.search_runs([experiment_id], named):
                client.update_run(known.info.run_id, status="RUNNING")
                return _Mlflow(path, client, known.info.run_id)
        started_ms = int(content.started_s * 1000)
        run_id = client.create_run(
            experiment_id, started_ms, run_name=content.run.run_id
        ).info.run_id
        params = [Param(name, str(value)[:LONGEST]) for name, value in content.facts.items()]
        client.log_batch(run_id, params=params, tags=[RunTag(t, "1") for t in content.note.tags])
        return _Mlflow(path, client, run_id)

    def log(self, points: Sequence[Scalars]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, int(point.wall_time_s * 1000), point.step)
            for point in points
            for name, value in point.values.items()
        ]
        for start in range(0, len(metrics), BATCH):
            self.client.log_batch(self.mlflow_id, metrics=metrics[start : start + BATCH])

    def finish(self, *, failed: bool = False) -> None:
        self.client.set_terminated(self.mlflow_id, "FAILED" if failed else "FINISHED")


@dataclass(frozen=True)
class _Stepwise:
    """A run of Trackio or Weights & Biases, which take values step by step."""

    path: Path
    run: Any

    def log(self, points: Sequence[Scalars]) -> None:
        for point in points:
            self.run.log(dict(point.values), step=point.step)

    def finish(self, *, failed: bool = False) -> None:
        self.run.finish()


def _open_trackio(content: RunRecords, folder: Path, resumed: bool) -> Tracker:
    """A local store, to be looked at with `TRACKIO_DIR=… trackio show`."""
    os.environ["TRACKIO_DIR"] = str(folder)  # read when it is imported
    import trackio

    run = trackio.init(
        project=PROJECT,
        name=content.run.run_id,
        config=content.facts,
        resume="allow" if resumed else "never",
        embed=False,
        auto_log_cpu=False,
        auto_log_gpu=False,
    )
    return _Stepwise(folder, run)


def _open_wandb(content: RunRecords, folder: Path, resumed: bool) -> Tracker:
    """Files of a run that was never online; `wandb sync` sends them, if somebody wants that."""
    import wandb

    settings = wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        x_disable_meta=True,
        x_disable_stats=True,
    )
    run = wandb.init(
        project=PROJECT,
        id=content.run.run_id,
        name=content.run.run_id,
        dir=str(folder),
        mode="offline",
        config=content.facts,
        settings=settings,
    )
    return _Stepwise(Path(run.dir).parent, run)


TRACKERS = {
    "tensorboard": Kind("TensorBoard", "tensorboard", _TensorBoard.open),
    "mlflow": Kind("MLflow", "mlflow", _Mlflow.open),
    "trackio": Kind("Trackio", "trackio", _open_trackio),
    "wandb": Kind("Weights & Biases", "wandb", _open_wandb),
}
