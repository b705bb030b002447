"""Deleting runs with a way back: a run and all that was made of it move to the workspace's trash.

Only renames, so nothing is copied and every step can be repeated after a kill. The trash is
emptied elsewhere (`upkeep`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning import files
from mlx_finetuning.errors import NewerSchema, RecordDamaged, RunBusy, RunExists, RunNotInTrash
from mlx_finetuning.jobs import jobs, model_servers, runs
from mlx_finetuning.workspace import NAME, TrashPaths, Workspace

Moves = list[tuple[Path, Path]]
"""From where to where."""


@dataclass(frozen=True)
class Deleted:
    """A run in the trash."""

    run_id: str
    model: str
    dataset: str
    deleted_at: str
    """ISO 8601 in UTC; empty where the record cannot be read."""


def delete(workspace: Workspace, run_id: str) -> None:
    """Move a run, its adapter and its files to the trash; models kept loaded for it are let go.

    Raises RunNotFound, RunBusy, RunExists, DiskFull.
    """
    run = runs.show(workspace, run_id)
    model_servers.stop(workspace, run_id)
    with _resting(workspace, run_id):
        trash = workspace.trashed(run_id)
        moves = _possible(_parts(workspace, trash), run_id)
        record = {"model": run.model, "dataset": run.dataset, "deleted_at": jobs.now()}
        files.write_json(trash.record, record)
        # The run's own folder first: what is listed must never lack its files.
        _move(moves)


def restore(workspace: Workspace, run_id: str) -> None:
    """Move a run back to where it was. Raises RunNotInTrash, RunExists."""
    trash = workspace.trashed(run_id)
    if not trash.folder.is_dir():
        available = [one.run_id for one in list_deleted(workspace)]
        raise RunNotInTrash(run_id=run_id, available=available)
    back = [(kept, place) for place, kept in reversed(_parts(workspace, trash))]
    _move(_possible(back, run_id))
    trash.record.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # something of somebody else's lies in it
        trash.folder.rmdir()


def list_deleted(workspace: Workspace) -> list[Deleted]:
    """The trash, what was deleted last first."""
    folders = workspace.trash.iterdir() if workspace.trash.is_dir() else ()
    whole = (folder for folder in folders if NAME.fullmatch(folder.name))
    found = [_read(trash) for trash in map(TrashPaths, whole) if trash.run.is_dir()]
    return sorted(found, key=lambda one: (one.deleted_at, one.run_id), reverse=True)


def _parts(workspace: Workspace, trash: TrashPaths) -> Moves:
    """Where each part of a run belongs, and where it lies in the trash."""
    run_id = trash.folder.name
    return [
        (workspace.run(run_id).folder, trash.run),
        (workspace.adapter(run_id).folder, trash.adapter),
        (workspace.gguf_folder(run_id), trash.gguf),
    ]


def _possible(pairs: Moves, run_id: str) -> Moves:
    """Those of which there is something to move. Raises RunExists."""
    there = [(source, target) for source, target in pairs if source.exists()]
    for _, target in there:
        if target.exists():
            raise RunExists(run_id=run_id, path=str(target))
    return there


def _move(moves: Moves) -> None:
    for source, target in moves:
        files.make_folder(target.parent)
        source.rename(target)


@contextlib.contextmanager
def _resting(workspace: Workspace, run_id: str) -> Iterator[None]:
    """Hold the run's lock, so that it is not resumed meanwhile. Raises RunBusy."""
    paths = workspace.run(run_id)
    lock = files.FileLock(paths.lock)
    if not lock.acquire():
        raise RunBusy(run_id=run_id, jobs=["学習"])
    try:
        living = [job for job in runs.later_jobs(workspace, run_id) if job.status.is_living]
        if living:
            raise RunBusy(run_id=run_id, jobs=[job.name for job in living])
        yield
    finally:
        lock.release()


def _read(trash: TrashPaths) -> Deleted:
    record: dict[str, object] = {}
    with contextlib.suppress(FileNotFoundError, RecordDamaged, NewerSchema):
        record = files.read_json(trash.record)
    texts = (str(record.get(key, "")) for key in ("model", "dataset", "deleted_at"))
    return Deleted(trash.folder.name, *texts)
