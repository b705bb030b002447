"""Every path of a workspace, once. Names are checked here, so no stage joins strings to paths."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning.errors import InvalidName

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


def checked_name(kind: str, name: str) -> str:
    """`name` itself if it is safe as a folder name; `kind` is its Japanese noun. Raises InvalidName."""
    if not NAME.fullmatch(name):
        raise InvalidName(kind=kind, name=name)
    return name


@dataclass(frozen=True)
class DatasetPaths:
    folder: Path

    @property
    def train(self) -> Path:
        return self.folder / "train.jsonl"

    @property
    def valid(self) -> Path:
        return self.folder / "valid.jsonl"

    @property
    def test(self) -> Path:
        return self.folder / "test.jsonl"

    @property
    def manifest(self) -> Path:
        return self.folder / "dataset.json"

    def split(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"


@dataclass(frozen=True)
class JobPaths:
    """The folder of one piece of work done by a worker process."""

    folder: Path

    @property
    def job(self) -> Path:
        return self.folder / "job.json"

    @property
    def status(self) -> Path:
        return self.folder / "status.json"

    @property
    def result(self) -> Path:
        return self.folder / "result.json"

    @property
    def events(self) -> Path:
        return self.folder / "events.jsonl"

    @property
    def log(self) -> Path:
        return self.folder / "worker.log"

    @property
    def lock(self) -> Path:
        return self.folder / "worker.lock"

    @property
    def stop_request(self) -> Path:
        return self.folder / "stop.request"

    @property
    def port(self) -> Path:
        """Address and key of a model server, while it answers."""
        return self.folder / "port.json"

    @property
    def reserve(self) -> Path:
        """Space kept while the worker lives, so that its last words fit on a full disk."""
        return self.folder / ".reserve"


@dataclass(frozen=True)
class RunPaths(JobPaths):
    """`experiments/<run_id>/`: the training job's folder and what later jobs add to it."""

    @property
    def experiment(self) -> Path:
        return self.folder / "experiment.json"

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """Sample answers during training, a line each."""
        return self.folder / "samples.jsonl"

    @property
    def report(self) -> Path:
        return self.folder / "report.json"

    @property
    def report_html(self) -> Path:
        return self.folder / "report.html"

    @property
    def certificate(self) -> Path:
        return self.folder / "certificate.json"

    @property
    def notes(self) -> Path:
        """What the user wrote about the run, and its tags."""
        return self.folder / "notes.json"

    @property
    def chats(self) -> Path:
        return self.folder / "chats"

    @property
    def jobs(self) -> Path:
        return self.folder / "jobs"

    def later_job(self, name: str) -> JobPaths:
        """The folder of an evaluation, export or conversation of this run."""
        return JobPaths(self.jobs / checked_name("ジョブ", name))


@dataclass(frozen=True)
class AdapterPaths:
    folder: Path

    @property
    def weights(self) -> Path:
        return self.folder / "adapters.safetensors"

    @property
    def config(self) -> Path:
        return self.folder / "adapter_config.json"

    @property
    def best(self) -> Path:
        return self.folder / "best"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"


@dataclass(frozen=True)
class TrashPaths:
    """`trash/<run_id>/`: a deleted run, whole, until it is restored or the trash emptied."""

    folder: Path

    @property
    def record(self) -> Path:
        return self.folder / "trash.json"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def adapter(self) -> Path:
        return self.folder / "finetuned"

    @property
    def gguf(self) -> Path:
        return self.folder / "gguf"


@dataclass(frozen=True)
class Workspace:
    """The folder that holds a user's datasets, runs and models."""

    root: Path

    @staticmethod
    def locate(root: str | Path | None = None) -> Workspace:
        """`root`, else MLX_FINETUNING_HOME, else the current directory."""
        chosen = root or os.environ.get("MLX_FINETUNING_HOME") or Path.cwd()
        return Workspace(Path(chosen).expanduser().resolve())

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def experiments(self) -> Path:
        return self.root / "experiments"

    @property
    def base_models(self) -> Path:
        return self.root / "models" / "base"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def uploads(self) -> Path:
        """Files handed in through the browser."""
        return self.root / "uploads"

    @property
    def trash(self) -> Path:
        return self.root / "trash"

    @property
    def exports(self) -> Path:
        """Records written for other programs."""
        return self.root / "exports"

    @property
    def deleted_datasets(self) -> Path:
        """Datasets in the trash, each in a folder named by when it was deleted."""
        return self.trash / "datasets"

    def trashed(self, run_id: str) -> TrashPaths:
        return TrashPaths(self.trash / checked_name("実験", run_id))

    @property
    def preferences(self) -> Path:
        return self.root / "preferences.json"

    @property
    def jobs(self) -> Path:
        """Jobs that belong to no run."""
        return self.logs / "jobs"

    def job(self, name: str) -> JobPaths:
        """The folder of a job that belongs to no run."""
        return JobPaths(self.jobs / checked_name("ジョブ", name))

    @property
    def device_lock(self) -> Path:
        return self.logs / "device.lock"

    def dataset(self, name: str) -> DatasetPaths:
        return DatasetPaths(self.datasets / checked_name("データセット", name))

    def run(self, run_id: str) -> RunPaths:
        return RunPaths(self.experiments / checked_name("実験", run_id))

    def base_model(self, name: str) -> Path:
        return self.base_models / checked_name("モデル", name)

    def adapter(self, run_id: str) -> AdapterPaths:
        return AdapterPaths(self.root / "models" / "finetuned" / checked_name("実験", run_id))

    def gguf_folder(self, run_id: str) -> Path:
        return self.root / "models" / "gguf" / checked_name("実験", run_id)
