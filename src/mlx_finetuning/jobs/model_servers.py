"""Model servers of a run: jobs that keep a model loaded and answer over HTTP until nobody asks.

Each is a job of kind `serve_model` with `port.json` beside its status: address and key, readable by
the user alone. One per engine; a server of another file, or of weights that have changed since,
makes way. Knows no HTTP and no engine.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mlx_finetuning import files
from mlx_finetuning.errors import Interrupted, NewerSchema, RecordDamaged
from mlx_finetuning.jobs import jobs, runs, status
from mlx_finetuning.jobs.jobs import Job
from mlx_finetuning.jobs.status import JobState
from mlx_finetuning.progress import Progress
from mlx_finetuning.workspace import JobPaths, Workspace

KIND = "serve_model"
POLL_S = 0.05
IDENTITY = ("engine", "gguf", "made")
"""Settings that say what is loaded; servers that agree in them are interchangeable."""


@dataclass(frozen=True)
class ModelServer:
    """A server that is ready, or was a moment ago."""

    paths: JobPaths
    config: dict[str, Any]
    """Its job's settings."""
    address: str
    """`http://127.0.0.1:50123`."""
    key: str

    @property
    def engine(self) -> str:
        """`mlx` or `gguf`."""
        return str(self.config["engine"])

    @property
    def is_public(self) -> bool:
        """Started for other programs, and only stopped by whoever started it."""
        return is_public(self.config)


def is_public(config: dict[str, Any]) -> bool:
    return bool(config.get("owner"))


def living(workspace: Workspace, run_id: str) -> list[ModelServer]:
    """The run's servers that answer now."""
    servers = (_ready(paths, job) for paths, job in _jobs(workspace, run_id))
    return [server for server in servers if server is not None]


def join_or_start(
    workspace: Workspace, run_id: str, config: dict[str, Any], progress: Progress
) -> ModelServer:
    """A server for `config`, ready to answer; `progress` hears while the model loads.

    Raises RunNotFound, RunNotReady, RunIsSimulated, and what the server's start raises.
    """
    runs.require_trained(workspace, run_id)
    while True:
        with _alone(workspace, run_id):
            suited = (
                paths
                for paths, job in _jobs(workspace, run_id)
                if all(job.config.get(key) == config.get(key) for key in IDENTITY)
            )
            paths = next(suited, None) or _start(workspace, run_id, config)
        server = _until_ready(paths, progress)
        if server is not None:  # else it let its model go just now
            return server


@contextlib.contextmanager
def offered(
    workspace: Workspace, run_id: str, config: dict[str, Any], progress: Progress
) -> Iterator[ModelServer]:
    """A server of its own for other programs, ready to answer; conversations join it.

    It ends with the block, or with this process however that ends: it watches a lock held here.
    Raises what `join_or_start` raises.
    """
    owner = files.FileLock(workspace.run(run_id).jobs / f".owner-{secrets.token_hex(4)}.lock")
    owner.acquire()
    try:
        with _alone(workspace, run_id):
            paths = _start(workspace, run_id, {**config, "owner": str(owner.path), "idle_s": 0})
        try:
            server = _until_ready(paths, progress)
            if server is None:
                raise Interrupted()
            yield server
        finally:
            _end(paths)
    finally:
        owner.path.unlink(missing_ok=True)
        owner.release()


def _start(workspace: Workspace, run_id: str, config: dict[str, Any]) -> JobPaths:
    """Start a server's job; those with the same engine make way for it."""
    for paths, job in _jobs(workspace, run_id):
        if job.config.get("engine") == config["engine"] and not is_public(job.config):
            jobs.request_stop(paths)
    return runs.start_later_job(workspace, run_id, KIND, config)


def stop(workspace: Workspace, run_id: str) -> None:
    """Ask the run's servers to end, but for public ones, and wait until they have."""
    asked = [paths for paths, job in _jobs(workspace, run_id) if not is_public(job.config)]
    _end(*asked)


def _end(*servers: JobPaths) -> None:
    for paths in servers:
        jobs.request_stop(paths)
    while any(files.is_locked(paths.lock) for paths in servers):
        time.sleep(POLL_S)


def _jobs(workspace: Workspace, run_id: str) -> Iterator[tuple[JobPaths, Job]]:
    """Servers that live and were not asked to stop."""
    for folder in workspace.run(run_id).jobs.glob("serve-model-*/"):
        paths = JobPaths(folder)
        if paths.stop_request.exists() or not files.is_locked(paths.lock):
            continue
        with contextlib.suppress(FileNotFoundError, RecordDamaged, NewerSchema):
            yield paths, jobs.read_job(paths)


def _ready(paths: JobPaths, job: Job) -> ModelServer | None:
    try:
        record = files.read_json(paths.port)
        return ModelServer(paths, job.config, record["address"], record["key"])
    except (FileNotFoundError, RecordDamaged, NewerSchema, KeyError):
        return None


def _until_ready(paths: JobPaths, progress: Progress) -> ModelServer | None:
    """Follow the start; None where the server has ended well, or was stopped, in the meantime.

    Raises the error it ended with; Ctrl-C stops a server that was starting.
    """
    try:
        while True:
            server = _ready(paths, jobs.read_job(paths))
            if server is not None:
                return server
            current = status.read(paths)
            progress(jobs.as_step(current))
            if current.state in (JobState.DONE, JobState.CANCELLED):
                return None
            if not current.is_living:
                jobs.require_done(paths, current)
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        jobs.request_stop(paths)
        raise


@contextlib.contextmanager
def _alone(workspace: Workspace, run_id: str) -> Iterator[None]:
    """Two who ask at once must not both start a server."""
    lock = files.FileLock(workspace.run(run_id).jobs / ".servers.lock")
    while not lock.acquire():
        time.sleep(POLL_S)
    try:
        yield
    finally:
        lock.release()
