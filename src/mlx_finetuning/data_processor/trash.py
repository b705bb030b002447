"""Deleting datasets with a way back: a dataset's folder moves to the trash in one rename.

`<trash>/<time>/<name>/`, so that a name may be in the trash several times. Whether a dataset is in
use is the caller's question; the trash is emptied elsewhere (`upkeep`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlx_finetuning import files
from mlx_finetuning.data_processor.store import TRASH_TIME, trash_place
from mlx_finetuning.errors import DatasetInTheWay, DatasetNotInTrash
from mlx_finetuning.utils.trash import move, possible_moves, remove_if_empty
from mlx_finetuning.workspace import NAME, DatasetPaths


@dataclass(frozen=True)
class DeletedDataset:
    """A dataset in the trash."""

    name: str
    deleted_at: str
    """ISO 8601 in UTC."""
    folder: Path


def delete(dataset: DatasetPaths, trash: Path) -> None:
    """Move a dataset that exists to the trash. Raises DiskFull."""
    with files.alone_in(dataset.folder.parent):
        move([(dataset.folder, trash_place(trash, dataset.folder.name))])


def restore(dataset: DatasetPaths, trash: Path, deleted_at: str = "") -> None:
    """Move back the dataset of this name that was deleted last, or then.

    Raises DatasetNotInTrash, DatasetInTheWay.
    """
    name, deleted = dataset.folder.name, list_deleted(trash)
    for candidate in deleted:
        if candidate.name == name and deleted_at in ("", candidate.deleted_at):
            break
    else:
        raise DatasetNotInTrash(name=name, available=[each.name for each in deleted])
    with files.alone_in(files.make_folder(dataset.folder.parent)):
        back = [(candidate.folder, dataset.folder)]
        move(possible_moves(back, lambda target: DatasetInTheWay(name=name)))
    remove_if_empty(candidate.folder.parent)


def list_deleted(trash: Path) -> list[DeletedDataset]:
    """What was deleted last first."""
    deleted = []
    for folder in trash.glob("*/*/"):
        try:
            time = datetime.strptime(folder.parent.name, TRASH_TIME).replace(tzinfo=UTC)
        except ValueError:
            continue  # not a folder of ours
        if NAME.fullmatch(folder.name):
            deleted.append(DeletedDataset(folder.name, time.isoformat(), folder))
    return sorted(deleted, key=lambda each: (each.deleted_at, each.name), reverse=True)
