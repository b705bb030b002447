"""Runs: one training job each, with what was trained on what, and the jobs that came later.

`experiment.json` is written once, with the folder. Records that are damaged or of a newer version
are shown as such and never rewritten; the rest of the run stays readable.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import platform
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from mlx_finetuning import __version__, files
from mlx_finetuning.config import TrainConfig, as_dict
from mlx_finetuning.errors import (
    InvalidName,
    NewerSchema,
    RecordDamaged,
    RunHasNoDataset,
    RunIsSimulated,
    RunNotFound,
    RunNotReady,
    RunNotResumable,
)
from mlx_finetuning.jobs import jobs, kinds, status
from mlx_finetuning.jobs.jobs import Job
from mlx_finetuning.jobs.logs import MetricsLine
from mlx_finetuning.jobs.results import Deployment
from mlx_finetuning.jobs.status import JobState, JobStatus
from mlx_finetuning.language import _
from mlx_finetuning.utils import fingerprint
from mlx_finetuning.workspace import DatasetPaths, JobPaths, RunPaths, Workspace

_SLUG_LENGTH = 40
_RECENT = 5
_STOPPED = (JobState.INTERRUPTED, JobState.CANCELLED, JobState.FAILED)
_TEXTS = (
    *("model", "model_folder", "dataset", "engine"),
    *("created_at", "dataset_sha256", "model_fingerprint", "parent", "imported"),
)
_MODEL_FILES = (".json", ".safetensors", ".model", ".jinja")


@dataclass(frozen=True)
class Run:
    """A run as its folder shows it."""

    run_id: str
    status: JobStatus
    """`state` is `damaged` or `newer` where `status.json` cannot be used."""
    model: str = ""
    model_folder: str = ""
    dataset: str = ""
    engine: str = ""
    created_at: str = ""
    dataset_sha256: str = ""
    model_fingerprint: str = ""
    parent: str = ""
    """The run that this one continues."""
    merged: tuple[str, ...] = ()
    """The runs whose adapters were merged into this one's; nothing was trained then."""
    imported: str = ""
    """`peft` or `mlx-lm`, if the adapter was made elsewhere; nothing was trained then."""
    versions: dict[str, str] = field(default_factory=dict)
    resumable: bool = False
    """Whether it was stopped and left a checkpoint to go on from."""
    problems: tuple[str, ...] = ()
    """Records that cannot be read."""

    @property
    def title(self) -> str:
        """`model ← dataset`; of an imported run the model alone, if it has no dataset."""
        return f"{self.model} ← {self.dataset}" if self.dataset else self.model

    @property
    def simulated(self) -> bool:
        """Whether nothing was trained, and its figures are made up."""
        return self.engine == "simulation"

    @property
    def shown_state(self) -> JobState:
        """The job's state, as far as the records can be read."""
        if self.problems:
            return JobState.DAMAGED
        is_paused = self.resumable and self.status.state == JobState.CANCELLED
        return JobState.PAUSED if is_paused else self.status.state

    @property
    def can_go_on(self) -> bool:
        """Whether it stopped before its end, and its engine can take it up again."""
        return self.status.state in _STOPPED and self.engine == "mlx"

    @property
    def state_label(self) -> str:
        """The shown state for people; simulations say that they are."""
        label = self.shown_state.label
        return _("{label}（シミュレーション）").format(label=label) if self.simulated else label


@dataclass(frozen=True)
class LaterJob:
    """An evaluation, export or conversation of a run."""

    name: str
    kind: str
    status: JobStatus


@dataclass(frozen=True)
class Merge:
    """`merge.json`: what a run's adapter was made of."""

    run_ids: tuple[str, ...]
    settings: dict[str, object]
    """`MergeConfig`."""


@dataclass(frozen=True)
class Import:
    """`import.json`: where a run's adapter was taken from."""

    folder: str
    form: str
    """`peft` or `mlx-lm`."""


def new_id(model: str) -> str:
    """`YYYYMMDD-HHMMSS-<model slug>-<4 hex>`."""
    slug = re.sub(r"[^a-z0-9]+", "-", model.rsplit("/", 1)[-1].lower()).strip("-")
    slug = slug[:_SLUG_LENGTH].strip("-") or "model"
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    return f"{stamp}-{slug}-{secrets.token_hex(2)}"


def start(
    workspace: Workspace,
    config: TrainConfig,
    model_folder: Path | None,
    made: Merge | Import | None = None,
) -> str:
    """Create the run's folder and start its worker, which trains, or takes over what was `made` already;
    returns the run's id. Raises DiskFull.

    Model, dataset and settings are checked by the caller; a simulated run has no model folder.
    """
    draft = prepared(workspace, config, model_folder, made)
    jobs.launch(draft.paths, draft.job, draft.add_files)
    return draft.job.run_id


@dataclass(frozen=True)
class RunDraft:
    """A run that is yet to be created."""

    paths: RunPaths
    job: Job
    add_files: jobs.AddFiles


def prepared(
    workspace: Workspace,
    config: TrainConfig,
    model_folder: Path | None,
    made: Merge | Import | None = None,
) -> RunDraft:
    """What a new run's folder will hold."""
    import importlib.metadata

    import yaml

    run_id = new_id(config.model)
    versions = {"mlx-finetuning": __version__, "python": platform.python_version()}
    for package in ("mlx", "mlx-lm", "transformers"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    versions["platform"] = f"{platform.system()} {platform.machine()}"
    record = {
        "run_id": run_id,
        "model": config.model,
        "model_folder": "" if model_folder is None else str(model_folder),
        "dataset": config.dataset,
        "engine": config.engine,
        "simulated": config.engine == "simulation",
        "created_at": jobs.now(),
        "dataset_sha256": dataset_hash(workspace.dataset(config.dataset)) if config.dataset else "",
        "model_fingerprint": "" if model_folder is None else model_fingerprint(model_folder),
        "parent": config.continues,
        "merged": list(made.run_ids) if isinstance(made, Merge) else [],
        "imported": made.form if isinstance(made, Import) else "",
        "versions": versions,
    }

    def add_files(folder: Path) -> None:
        draft = RunPaths(folder)
        files.write_json(draft.experiment, record)
        text = yaml.safe_dump(as_dict(config), allow_unicode=True, sort_keys=False)
        files.write_text(draft.config, text)
        if isinstance(made, Merge):
            files.write_json(draft.merge, dataclasses.asdict(made))
        if isinstance(made, Import):
            files.write_json(draft.imported, dataclasses.asdict(made))

    kind = {Merge: "merge", Import: "import_adapter"}.get(type(made), "train")
    job = Job(kind, str(workspace.root), run_id, as_dict(config))
    return RunDraft(workspace.run(run_id), job, add_files)


def resume(workspace: Workspace, run_id: str) -> None:
    """Let a run that stopped go on from its last checkpoint, or from the start if it has none.

    Raises RunNotFound, RunNotResumable, DiskFull.
    """
    run = show(workspace, run_id)
    if not run.can_go_on or not jobs.relaunch(workspace.run(run_id)):
        raise RunNotResumable(run_id=run_id, state=run.state_label)


def list_runs(workspace: Workspace, most: int | None = None) -> list[Run]:
    """All runs, or so many at most, the newest first."""
    folders = workspace.experiments.glob("*/") if workspace.experiments.is_dir() else ()
    names = (folder.name for folder in folders if not folder.name.startswith("."))
    return [
        _read(RunPaths(workspace.experiments / name)) for name in sorted(names, reverse=True)[:most]
    ]


def show(workspace: Workspace, run_id: str) -> Run:
    """Raises RunNotFound, InvalidName."""
    paths = workspace.run(run_id)
    if not paths.folder.is_dir():
        recent = [run.run_id for run in list_runs(workspace)[:_RECENT]]
        raise RunNotFound(run_id=run_id, recent=recent)
    return _read(paths)


def metrics(workspace: Workspace, run_id: str) -> list[MetricsLine]:
    """The run's whole metrics lines so far. Raises RunNotFound."""
    show(workspace, run_id)
    return list(files.read_records(workspace.run(run_id).metrics, MetricsLine))


def later_jobs(workspace: Workspace, run_id: str) -> list[LaterJob]:
    """The run's evaluations, exports and conversations, the newest first; with an empty `run_id`
    the jobs that belong to no run."""
    parent, later = workspace.run(run_id).jobs if run_id else workspace.jobs, []
    for folder in parent.glob("[!.]*/") if parent.is_dir() else ():
        paths = JobPaths(folder)
        try:
            kind = jobs.read_job(paths).kind
        except (FileNotFoundError, RecordDamaged, NewerSchema):
            kind = ""
        later.append(LaterJob(folder.name, kind, _status(paths)[0]))
    return sorted(later, key=lambda job: job.name, reverse=True)


def start_later_job(
    workspace: Workspace, run_id: str, kind: str, settings: Mapping[str, object]
) -> JobPaths:
    """Start a job on what the run trained. Raises RunNotFound, RunIsSimulated, RunNotReady,
    RunHasNoDataset."""
    run = require_trained(workspace, run_id)
    if kinds.of(kind).needs_rows and not run.dataset:
        raise RunHasNoDataset(run_id=run_id)
    paths = workspace.run(run_id).later_job(jobs.new_name(kind))
    jobs.launch(paths, Job(kind, str(workspace.root), run_id, dict(settings)))
    return paths


def require_trained(workspace: Workspace, run_id: str) -> Run:
    """The run, if it left an adapter. Raises RunNotFound, RunIsSimulated, RunNotReady."""
    run = show(workspace, run_id)
    if run.simulated:
        raise RunIsSimulated(run_id=run_id)
    if not is_trained(workspace, run):
        raise RunNotReady(run_id=run_id, state=run.state_label)
    return run


def is_trained(workspace: Workspace, run: Run) -> bool:
    """Whether the run has ended and left an adapter."""
    is_at_rest = not (run.simulated or run.status.is_living)
    return is_at_rest and workspace.adapter(run.run_id).weights.exists()


def deployments(workspace: Workspace, run_id: str) -> list[Deployment]:
    """What the run's deployments to Ollama came to, the newest first, one per place and name."""
    newest: dict[tuple[str, str], Deployment] = {}
    for job in later_jobs(workspace, run_id):
        if job.kind == "deploy" and job.status.state == JobState.DONE:
            result = jobs.result(workspace.run(run_id).later_job(job.name), Deployment)
            newest.setdefault((result.host, result.name), result)
    return list(newest.values())


def dataset_hash(dataset: DatasetPaths) -> str:
    """SHA-256 over the splits, so that a run can tell whether its dataset has changed since."""
    digest = hashlib.sha256()
    for path in (dataset.train, dataset.valid, dataset.test):
        content = path.read_bytes() if path.exists() else b""
        digest.update(f"{path.name}:{len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def model_fingerprint(folder: Path) -> str:
    """SHA-256 over the model's files, by `utils.fingerprint`: it tells another model from this."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.suffix in _MODEL_FILES):
        for chunk in fingerprint.chunks(path):
            digest.update(chunk)
    return digest.hexdigest()


def _read(paths: RunPaths) -> Run:
    current, problems = _status(paths)
    try:
        record = files.read_json(paths.experiment)
    except (FileNotFoundError, RecordDamaged):
        return Run(paths.folder.name, current, problems=(*problems, paths.experiment.name))
    except NewerSchema:
        return Run(paths.folder.name, dataclasses.replace(current, state=JobState.NEWER))
    versions = record.get("versions")
    return Run(
        paths.folder.name,
        current,
        **{key: str(record.get(key, "")) for key in _TEXTS},
        merged=tuple(map(str, record.get("merged", ()))),
        versions=versions if isinstance(versions, dict) else {},
        resumable=current.state in _STOPPED and _has_checkpoint(paths),
        problems=problems,
    )


def _has_checkpoint(paths: RunPaths) -> bool:
    with contextlib.suppress(InvalidName):  # a folder that somebody else made
        adapter = Workspace(paths.folder.parents[1]).adapter(paths.folder.name)
        return any(adapter.checkpoints.glob("[0-9]*/state.json"))
    return False


def _status(paths: JobPaths) -> tuple[JobStatus, tuple[str, ...]]:
    try:
        return status.read(paths), ()
    except NewerSchema:
        return JobStatus(JobState.NEWER), ()
    except (FileNotFoundError, RecordDamaged):
        return JobStatus(JobState.DAMAGED), (paths.status.name,)
