"""Deleting datasets with a way back: a dataset's folder moves to the trash in one rename.

`<trash>/<when>/<name>/`, so that a name may be in the trash several times. Whether a dataset is in
use is the caller's question; the trash is emptied elsewhere (`upkeep`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlx_finetuning import files
from mlx_finetuning.data_processor.store import swapping
from mlx_finetuning.errors import DatasetInTheWay, DatasetNotInTrash
from mlx_finetuning.workspace import NAME, DatasetPaths

_WHEN = "%Y%m%d-%H%M%S-%f"


@dataclass(frozen=True)
class DeletedDataset:
    """A dataset in the trash."""

    name: str
    deleted_at: str
    """ISO 8601 in UTC."""
    folder: Path


def delete(dataset: DatasetPaths, trash: Path) -> None:
    """Move a dataset that exists to the trash. Raises DiskFull."""
    place = files.make_folder(trash / datetime.now(UTC).strftime(_WHEN))
    with swapping(dataset.folder.parent), files.disk_errors(place):
        dataset.folder.rename(place / dataset.folder.name)


def restore(dataset: DatasetPaths, trash: Path, deleted_at: str = "") -> None:
    """Move back the dataset of this name that was deleted last, or then.

    Raises DatasetNotInTrash, DatasetInTheWay.
    """
    name, there = dataset.folder.name, list_deleted(trash)
    wanted = (one for one in there if one.name == name and deleted_at in ("", one.deleted_at))
    found = next(wanted, None)
    if found is None:
        raise DatasetNotInTrash(name=name, available=[one.name for one in there])
    with swapping(files.make_folder(dataset.folder.parent)):
        if dataset.folder.exists():
            raise DatasetInTheWay(name=name)
        found.folder.rename(dataset.folder)
    with contextlib.suppress(OSError):  # something of somebody else's lies in it
        found.folder.parent.rmdir()


def list_deleted(trash: Path) -> list[DeletedDataset]:
    """What was deleted last first."""
    return sorted(_deleted(trash), key=lambda one: (one.deleted_at, one.name), reverse=True)


def _deleted(trash: Path) -> Iterator[DeletedDataset]:
    for folder in trash.glob("*/*/"):
        with contextlib.suppress(ValueError):  # not a folder of ours
            when = datetime.strptime(folder.parent.name, _WHEN).replace(tzinfo=UTC)
            if NAME.fullmatch(folder.name):
                yield DeletedDataset(folder.name, when.isoformat(), folder)
