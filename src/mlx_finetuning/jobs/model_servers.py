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
from dataclasses import asdict, dataclass, replace

from mlx_finetuning import files
from mlx_finetuning.errors import Interrupted, NewerSchema, RecordDamaged
from mlx_finetuning.jobs import jobs, runs, status
from mlx_finetuning.jobs.status import JobState
from mlx_finetuning.progress import Progress
from mlx_finetuning.workspace import JobPaths, Workspace

KIND = "serve_model"
POLL_S = 0.05


@dataclass(frozen=True)
class Serving:
    """What a server's job is asked for."""

    engine: str
    """`mlx` or `gguf`."""
    gguf: str = ""
    """The file."""
    strength: float = 1.0
    """By which the adapter's change is multiplied."""
    beside: tuple[str, ...] = ()
    """Other runs of the same base that are loaded with it (`mlx`)."""
    made: int = 0
    """When the weights or the file were written, nanoseconds."""
    host: str = "127.0.0.1"
    port: int = 0
    """0 takes a free one."""
    key: str | None = None
    """None for a fresh one, empty for none."""
    idle_s: float = 600.0
    """Seconds without a question after which the model is let go; 0 for never."""
    owner: str = ""
    """A lock of whoever started it for other programs; it ends once that is free."""

    @property
    def loaded(self) -> tuple[str, str, int, float, tuple[str, ...]]:
        """What is loaded; servers that agree in it are interchangeable."""
        return self.engine, self.gguf, self.made, self.strength, self.beside

    @property
    def is_public(self) -> bool:
        """Started for other programs, and only stopped by whoever started it."""
        return bool(self.owner)


@dataclass(frozen=True)
class ModelServer:
    """A server that is ready, or was a moment ago."""

    paths: JobPaths
    serving: Serving
    address: str
    """`http://127.0.0.1:50123`."""
    key: str

    @property
    def engine(self) -> str:
        """`mlx` or `gguf`."""
        return self.serving.engine


def living(workspace: Workspace, run_id: str) -> list[ModelServer]:
    """The run's servers that answer now."""
    servers = (_ready(paths, serving) for paths, serving in _jobs(workspace, run_id))
    return [server for server in servers if server is not None]


def join_or_start(
    workspace: Workspace, run_id: str, serving: Serving, progress: Progress
) -> ModelServer:
    """A server for `serving`, ready to answer; `progress` hears while the model loads.

    Raises RunNotFound, RunNotReady, RunIsSimulated, and what the server's start raises.
    """
    runs.require_trained(workspace, run_id)
    while True:
        with _alone(workspace, run_id):
            suited = (
                paths
                for paths, living in _jobs(workspace, run_id)
                if living.loaded == serving.loaded
            )
            paths = next(suited, None) or _start(workspace, run_id, serving)
        server = _until_ready(paths, progress)
        if server is not None:  # else it let its model go just now
            return server


@contextlib.contextmanager
def offered(
    workspace: Workspace, run_id: str, serving: Serving, progress: Progress
) -> Iterator[ModelServer]:
    """A server of its own for other programs, ready to answer; conversations join it.

    It ends with the block, or with this process however that ends: it watches a lock held here.
    Raises what `join_or_start` raises.
    """
    owner = files.FileLock(workspace.run(run_id).jobs / f".owner-{secrets.token_hex(4)}.lock")
    owner.acquire()
    try:
        with _alone(workspace, run_id):
            paths = _start(workspace, run_id, replace(serving, owner=str(owner.path), idle_s=0))
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


def _start(workspace: Workspace, run_id: str, serving: Serving) -> JobPaths:
    """Start a server's job; those with the same engine make way for it."""
    for paths, living in _jobs(workspace, run_id):
        if living.engine == serving.engine and not living.is_public:
            jobs.request_stop(paths)
    return runs.start_later_job(workspace, run_id, KIND, asdict(serving))


def stop(workspace: Workspace, run_id: str) -> None:
    """Ask the run's servers to end, but for public ones, and wait until they have."""
    asked = [paths for paths, serving in _jobs(workspace, run_id) if not serving.is_public]
    _end(*asked)


def _end(*servers: JobPaths) -> None:
    for paths in servers:
        jobs.request_stop(paths)
    while any(files.is_locked(paths.lock) for paths in servers):
        time.sleep(POLL_S)


def _jobs(workspace: Workspace, run_id: str) -> Iterator[tuple[JobPaths, Serving]]:
    """Servers that live and were not asked to stop."""
    for folder in workspace.run(run_id).jobs.glob("serve-model-*/"):
        paths = JobPaths(folder)
        if paths.stop_request.exists() or not files.is_locked(paths.lock):
            continue
        with contextlib.suppress(FileNotFoundError, RecordDamaged, NewerSchema):
            yield paths, _serving(paths)


def _serving(paths: JobPaths) -> Serving:
    return files.decode(jobs.read_job(paths).config, Serving, paths.job)


def _ready(paths: JobPaths, serving: Serving) -> ModelServer | None:
    try:
        record = files.read_json(paths.port)
        return ModelServer(paths, serving, record["address"], record["key"])
    except (FileNotFoundError, RecordDamaged, NewerSchema, KeyError):
        return None


def _until_ready(paths: JobPaths, progress: Progress) -> ModelServer | None:
    """Follow the start; None where the server has ended well, or was stopped, in the meantime.

    Raises the error it ended with; Ctrl-C stops a server that was starting.
    """
    try:
        while True:
            server = _ready(paths, _serving(paths))
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
