"""Jobs: a folder each, worked on by a process of its own that outlives whoever started it.

A folder appears whole or not at all. Its lock is taken here and inherited by the worker, so it
frees by itself however the worker dies. Does not know what the kinds of jobs do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlx_finetuning import files, language
from mlx_finetuning.errors import Interrupted, JobInterrupted, RecordDamaged, StudioError
from mlx_finetuning.files import JsonObject, Record
from mlx_finetuning.jobs import status
from mlx_finetuning.jobs.status import JobState, JobStatus
from mlx_finetuning.language import _
from mlx_finetuning.progress import Progress, Step
from mlx_finetuning.utils import mac
from mlx_finetuning.workspace import JobPaths

POLL_S = 0.1
END_S = 5.0
"""How long a killed process may take to leave."""
RESERVE_BYTES = 16_384


@dataclass(frozen=True)
class Job:
    """`job.json`: what the worker is to do."""

    kind: str
    workspace: str
    """The workspace's root."""
    run_id: str
    """Empty for a job that belongs to no run."""
    config: JsonObject
    """As the kind of job needs it; its task decodes it."""


def now() -> str:
    """The time of day in records: ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def new_name(kind: str) -> str:
    """A fresh folder name for a job: `evaluate-20261123-193000-1a2b`."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    return f"{kind.replace('_', '-')}-{stamp}-{secrets.token_hex(2)}"


AddFiles = Callable[[Path], None]
"""Writes what belongs in a job's folder beside the job's own records."""


def launch(paths: JobPaths, job: Job, add_files: AddFiles = lambda __: None) -> None:
    """Create the job's folder and start its worker, which queues for the device.

    Raises DiskFull; then nothing is left.
    """
    lock = create(paths, job, add_files)
    try:
        assert lock.descriptor is not None
        _start_worker(paths, lock.descriptor)
    finally:
        lock.release()


def create(paths: JobPaths, job: Job, add_files: AddFiles = lambda __: None) -> files.FileLock:
    """Create the job's folder; returns its lock, held. Raises DiskFull; then nothing is left."""
    files.make_folder(paths.folder.parent)
    prefix = files.TEMPORARY_PREFIX
    draft = JobPaths(Path(tempfile.mkdtemp(prefix=prefix, dir=paths.folder.parent)))
    try:
        # The lock belongs to the file, not to its path: it is still held after the renaming.
        lock = files.FileLock(draft.lock)
        lock.acquire()
        _keep_reserve(draft)
        files.write_json(draft.job, dataclasses.asdict(job))
        write_status(draft, _queued())
        add_files(draft.folder)
        draft.folder.rename(paths.folder)
    except BaseException:
        shutil.rmtree(draft.folder, ignore_errors=True)
        raise
    return lock


def relaunch(paths: JobPaths) -> bool:
    """Start a worker in the folder of a job that has ended; False if one still lives there.

    Raises DiskFull; then the job's record stays as it was.
    """
    lock = take_up(paths)
    if lock is None:
        return False
    try:
        assert lock.descriptor is not None
        _start_worker(paths, lock.descriptor)
    finally:
        lock.release()
    return True


def take_up(paths: JobPaths) -> files.FileLock | None:
    """Queue a job again that has ended; its lock, held, or None if a worker still lives there.

    Raises DiskFull; then the job's record stays as it was.
    """
    lock = files.FileLock(paths.lock)
    # A worker that has written its last status still takes a moment to leave.
    end_s = time.monotonic() + END_S
    while not lock.acquire():
        if status.read(paths).is_living or time.monotonic() > end_s:
            return None
        time.sleep(0.05)
    try:
        _keep_reserve(paths)
        paths.stop_request.unlink(missing_ok=True)
        write_status(paths, _queued())
    except BaseException:
        lock.release()
        raise
    return lock


def _queued() -> JobStatus:
    return JobStatus(JobState.QUEUED, created_at=now(), heartbeat_s=time.monotonic())


def _keep_reserve(paths: JobPaths) -> None:
    """Take room for the worker's last words now: a disk that is too full for them is told before
    anything starts. Raises DiskFull."""
    with files.disk_errors(paths.reserve):
        try:
            # Random, because some file systems store zeros in no space at all.
            paths.reserve.write_bytes(os.urandom(RESERVE_BYTES))
        except OSError as error:
            if error.errno != errno.EFBIG:  # a limit on single files leaves room for small ones
                raise


def worker_command(folder: Path, lock_descriptor: int) -> list[str]:
    """What runs the job in `folder`; the worker inherits the lock."""
    # -P: a file named like a module in the current folder must not be imported.
    module = "mlx_finetuning.worker"
    return [sys.executable, "-P", "-m", module, str(folder), "--lock-fd", str(lock_descriptor)]


def _start_worker(paths: JobPaths, lock_descriptor: int) -> None:
    paths.log.touch(mode=0o600)
    with paths.log.open("ab") as log:
        process = subprocess.Popen(
            worker_command(paths.folder, lock_descriptor),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={
                **mac.worker_environment(os.environ),
                "PYTHONUTF8": "1",
                "PYTHONUNBUFFERED": "1",
                language.VARIABLE: language.language(),
            },
            start_new_session=True,
            pass_fds=[lock_descriptor],
        )
    # Somebody has to collect the exit status, or a long-lived launcher gathers zombies.
    threading.Thread(target=process.wait, daemon=True).start()


def write_status(paths: JobPaths, value: JobStatus) -> None:
    """Replace `status.json`. Raises DiskFull."""
    files.write_json(paths.status, dataclasses.asdict(value))


def read_job(paths: JobPaths) -> Job:
    """Raises FileNotFoundError, RecordDamaged, NewerSchema."""
    record = files.read_json(paths.job)
    try:
        return Job(**{item.name: record[item.name] for item in dataclasses.fields(Job)})
    except KeyError as error:
        raise RecordDamaged(path=str(paths.job)) from error


def request_stop(paths: JobPaths) -> None:
    """Ask the worker to stop at its next report; returns at once."""
    paths.stop_request.touch(mode=0o600)


def sign(lock_descriptor: int) -> None:
    """Write this worker's process id into its lock, for `end`; true as long as the lock is held."""
    with contextlib.suppress(OSError):  # a full disk must not end a run that has not begun
        os.ftruncate(lock_descriptor, 0)
        os.pwrite(lock_descriptor, str(os.getpid()).encode(), 0)


def end(paths: JobPaths) -> bool:
    """End the worker and its gradient workers at once, whatever they hang in; True once nobody lives.

    The job is then `interrupted`. For a worker that does not heed `request_stop`.
    """
    import psutil

    with contextlib.suppress(
        FileNotFoundError, ProcessLookupError, ValueError, OverflowError, psutil.Error
    ):
        number = int(paths.lock.read_text(encoding="ascii"))
        # Whatever a damaged file says, never anybody else's process.
        if files.is_locked(paths.lock) and str(paths.folder) in psutil.Process(number).cmdline():
            os.killpg(number, signal.SIGKILL)  # a worker leads its gradient workers' group
    until_s = time.monotonic() + END_S
    while files.is_locked(paths.lock) and time.monotonic() < until_s:
        time.sleep(0.02)
    return not files.is_locked(paths.lock)


def follow(
    paths: JobPaths, progress: Progress, *, stops: bool = True, steadily: bool = False
) -> None:
    """Report the job's steps until it ends. Raises the error it ended with.

    Ctrl-C, or Interrupted from `progress`, stops the job if `stops`, and is raised in any case.
    `steadily`: report also when nothing has changed, for a listener that may want to stop.
    """
    try:
        require_done(paths, _until_end(paths, progress, steadily=steadily))
    except (KeyboardInterrupt, Interrupted) as error:
        if stops and status.read(paths).is_living:
            request_stop(paths)
            _until_end(paths, lambda __: None)
        raise Interrupted() from error


def _until_end(paths: JobPaths, progress: Progress, *, steadily: bool = False) -> JobStatus:
    shown = None
    while True:
        current = status.read(paths)
        step = as_step(current)
        if steadily or step != shown:
            progress(step)
            shown = step
        if not current.is_living:
            return current
        time.sleep(POLL_S)


def as_step(current: JobStatus) -> Step:
    """The job's state as a listener of its progress hears it."""
    stage = current.stage or current.state.label
    if current.state in (JobState.STOPPING, JobState.STALLED):
        stage = _("{stage}（{label}）").format(stage=stage, label=current.state.label)
    return Step(stage, current.done, current.total, current.detail, current.remaining_s)


def require_done(paths: JobPaths, ended: JobStatus) -> None:
    """Raises the error that a job ended with, or Interrupted, unless it is done."""
    if ended.state == JobState.DONE:
        return
    if ended.state == JobState.CANCELLED:
        raise Interrupted()
    if ended.error is not None:
        raise StudioError.from_json(ended.error)
    raise JobInterrupted(log=str(paths.log))


def result(paths: JobPaths, kind: type[Record]) -> Record:
    """What a job that is done came to, `result.json`. Raises RecordDamaged, NewerSchema."""
    try:
        return files.read_record(paths.result, kind)
    except FileNotFoundError as error:
        raise RecordDamaged(path=str(paths.result)) from error
