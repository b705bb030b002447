"""Deleting runs with a way back: a run and all that was made of it move to the workspace's trash.

The trash is emptied elsewhere (`upkeep`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning import files
from mlx_finetuning.errors import NewerSchema, RecordDamaged, RunBusy, RunExists, RunNotInTrash
from mlx_finetuning.jobs import jobs, model_servers, runs
from mlx_finetuning.language import _
from mlx_finetuning.utils.trash import Moves, move, possible_moves, remove_if_empty
from mlx_finetuning.workspace import NAME, TrashPaths, Workspace


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
    lock = files.FileLock(workspace.run(run_id).lock)  # so that it is not resumed meanwhile
    if not lock.acquire():
        raise RunBusy(run_id=run_id, jobs=[_("学習", "job")])
    try:
        living = [job for job in runs.later_jobs(workspace, run_id) if job.status.is_living]
        if living:
            raise RunBusy(run_id=run_id, jobs=[job.name for job in living])
        trash = workspace.trashed(run_id)
        # The run's own folder first: what is listed must never lack its files.
        moves = possible_moves(_parts(workspace, trash), _already_there(run_id))
        record = {"model": run.model, "dataset": run.dataset, "deleted_at": jobs.now()}
        files.write_json(trash.record, record)
        move(moves)
    finally:
        lock.release()


def restore(workspace: Workspace, run_id: str) -> None:
    """Move a run back to where it was. Raises RunNotInTrash, RunExists."""
    trash = workspace.trashed(run_id)
    if not trash.folder.is_dir():
        available = [deleted.run_id for deleted in list_deleted(workspace)]
        raise RunNotInTrash(run_id=run_id, available=available)
    back = [(trashed, original) for original, trashed in reversed(_parts(workspace, trash))]
    move(possible_moves(back, _already_there(run_id)))
    trash.record.unlink(missing_ok=True)
    remove_if_empty(trash.folder)


def list_deleted(workspace: Workspace) -> list[Deleted]:
    """The trash, what was deleted last first."""
    deleted = []
    for folder in workspace.trash.iterdir() if workspace.trash.is_dir() else ():
        trash = TrashPaths(folder)
        if not NAME.fullmatch(folder.name) or not trash.run.is_dir():
            continue
        record: dict[str, object] = {}
        with contextlib.suppress(FileNotFoundError, RecordDamaged, NewerSchema):
            record = files.read_json(trash.record)
        texts = (str(record.get(key, "")) for key in ("model", "dataset", "deleted_at"))
        deleted.append(Deleted(folder.name, *texts))
    return sorted(deleted, key=lambda run: (run.deleted_at, run.run_id), reverse=True)


def _parts(workspace: Workspace, trash: TrashPaths) -> Moves:
    """Where each part of a run belongs, and where it lies in the trash."""
    run_id = trash.folder.name
    return [
        (workspace.run(run_id).folder, trash.run),
        (workspace.adapter(run_id).folder, trash.adapter),
        (workspace.gguf_folder(run_id), trash.gguf),
    ]


def _already_there(run_id: str) -> Callable[[Path], RunExists]:
    return lambda target: RunExists(run_id=run_id, path=str(target))
