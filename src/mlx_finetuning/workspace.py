"""Every path of a workspace, once. Names are checked here, so no stage joins strings to paths."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mlx_finetuning.errors import InvalidName
from mlx_finetuning.language import _

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


def checked_name(kind: str, name: str) -> str:
    """`name` itself if it is safe as a folder name; `kind` is its Japanese noun. Raises InvalidName."""
    if not NAME.fullmatch(name):
        raise InvalidName(kind=kind, name=name)
    return name


class _Folder(Protocol):
    @property
    def folder(self) -> Path: ...


class _Entry:
    """A property: the path of a file or folder in its owner's `folder`."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __get__(self, owner: _Folder, kind: type) -> Path:
        return owner.folder / self._path


@dataclass(frozen=True)
class DatasetPaths:
    folder: Path

    train = _Entry("train.jsonl")
    valid = _Entry("valid.jsonl")
    test = _Entry("test.jsonl")
    manifest = _Entry("dataset.json")
    draft = _Entry("draft.json")
    """Edits that are not saved yet."""

    def split(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"


@dataclass(frozen=True)
class GeneratedPaths:
    """`generated/<name>/`: pairs made from documents, before and after they are a dataset."""

    folder: Path

    plan = _Entry("plan.json")
    """From which documents, with which model and settings."""
    pairs = _Entry("pairs.jsonl")
    """A line for each chunk that is done."""


@dataclass(frozen=True)
class JobPaths:
    """The folder of one piece of work done by a worker process."""

    folder: Path

    job = _Entry("job.json")
    status = _Entry("status.json")
    result = _Entry("result.json")
    events = _Entry("events.jsonl")
    log = _Entry("worker.log")
    lock = _Entry("worker.lock")
    stop_request = _Entry("stop.request")
    made = _Entry("made.jsonl")
    """Rows that were made so far, a line for each part of the work."""
    port = _Entry("port.json")
    """Address and key of a model server, while it answers."""
    answers = _Entry("answers.jsonl")
    """Of a batch test, as they come."""
    reserve = _Entry(".reserve")
    """Space kept while the worker lives, so that its last words fit on a full disk."""


@dataclass(frozen=True)
class RunPaths(JobPaths):
    """`experiments/<run_id>/`: the training job's folder and what later jobs add to it."""

    experiment = _Entry("experiment.json")
    config = _Entry("config.yaml")
    metrics = _Entry("metrics.jsonl")
    replay = _Entry("replay.jsonl")
    """What the base says by itself, and the run replays."""
    samples = _Entry("samples.jsonl")
    """Sample answers during training, a line each."""
    report = _Entry("report.json")
    report_html = _Entry("report.html")
    certificate = _Entry("certificate.json")
    merge = _Entry("merge.json")
    """Of a run that was made of others' adapters: which, and how."""
    tracked = _Entry("tracked.json")
    """How far its trackers have been told of its metrics."""
    imported = _Entry("import.json")
    """Of a run whose adapter was made elsewhere: by what, and where it lay."""
    notes = _Entry("notes.json")
    """What the user wrote about the run, and its tags."""
    marks = _Entry("marks.json")
    """What people said of its answers."""
    chats = _Entry("chats")
    jobs = _Entry("jobs")

    def later_job(self, name: str) -> JobPaths:
        """The folder of an evaluation, export or conversation of this run."""
        return JobPaths(self.jobs / checked_name(_("ジョブ"), name))


@dataclass(frozen=True)
class AdapterPaths:
    folder: Path

    weights = _Entry("adapters.safetensors")
    config = _Entry("adapter_config.json")
    optimizer = _Entry("optimizer.safetensors")
    """The optimizer's state after the last update, for a run that continues this one."""
    best = _Entry("best")
    checkpoints = _Entry("checkpoints")


@dataclass(frozen=True)
class TrashPaths:
    """`trash/<run_id>/`: a deleted run, whole, until it is restored or the trash emptied."""

    folder: Path

    record = _Entry("trash.json")
    run = _Entry("run")
    adapter = _Entry("finetuned")
    gguf = _Entry("gguf")


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
    def folder(self) -> Path:
        return self.root

    datasets = _Entry("datasets")
    experiments = _Entry("experiments")
    base_models = _Entry("models/base")
    self_answers = _Entry("models/replay")
    """What base models have said by themselves, a file each; made again where it is missing."""
    gguf_bases = _Entry("models/from-gguf")
    """Folders made of GGUF files, without their weights."""
    uploads = _Entry("uploads")
    """Files handed in through the browser."""
    generated_pairs = _Entry("generated")
    """Pairs made from documents, a folder a dataset."""
    tracking = _Entry("tracking")
    """Records of trackers, a folder each, of runs that asked for it."""
    exports = _Entry("exports")
    """Records written for other programs."""
    trash = _Entry("trash")
    deleted_datasets = _Entry("trash/datasets")
    """Datasets in the trash, each in a folder named by when it was deleted."""
    base_grades = _Entry("cache/base_grades")
    """What base models made of questions; made again when it is needed."""
    preferences = _Entry("preferences.json")
    logs = _Entry("logs")
    jobs = _Entry("logs/jobs")
    """Jobs that belong to no run."""
    device_lock = _Entry("logs/device.lock")

    def job(self, name: str) -> JobPaths:
        """The folder of a job that belongs to no run."""
        return JobPaths(self.jobs / checked_name(_("ジョブ"), name))

    def trashed(self, run_id: str) -> TrashPaths:
        return TrashPaths(self.trash / checked_name(_("実験", "one"), run_id))

    def dataset(self, name: str) -> DatasetPaths:
        return DatasetPaths(self.datasets / checked_name(_("データセット", "one"), name))

    def generated(self, name: str) -> GeneratedPaths:
        """Of the dataset of this name."""
        return GeneratedPaths(self.generated_pairs / checked_name(_("データセット", "one"), name))

    def run(self, run_id: str) -> RunPaths:
        return RunPaths(self.experiments / checked_name(_("実験", "one"), run_id))

    def base_model(self, name: str) -> Path:
        return self.base_models / checked_name(_("モデル"), name)

    def adapter(self, run_id: str) -> AdapterPaths:
        return AdapterPaths(
            self.root / "models" / "finetuned" / checked_name(_("実験", "one"), run_id)
        )

    def gguf_folder(self, run_id: str) -> Path:
        return self.root / "models" / "gguf" / checked_name(_("実験", "one"), run_id)
