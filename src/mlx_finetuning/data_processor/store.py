"""A dataset's folder: written whole or not at all, replaced without a moment of loss."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from mlx_finetuning import files
from mlx_finetuning.errors import DatasetExists
from mlx_finetuning.workspace import DatasetPaths

ASIDE = ".old-"
"""Begins the name of a dataset that waits aside while the new one takes its place."""
_ABANDONED_S = 3600.0
_LINES_AT_ONCE = 500
TRASH_TIME = "%Y%m%d-%H%M%S-%f"


@contextlib.contextmanager
def new_folder(
    paths: DatasetPaths, *, replace: bool, trash: Path | None = None
) -> Iterator[DatasetPaths]:
    """Paths in a temporary folder that takes the dataset's place when the block ends well. The old
    one goes to `trash`, or for good.

    On any exception the temporary folder goes and the old dataset stays. Raises DatasetExists
    (unless `replace`), DiskFull.
    """
    folder = paths.folder
    parent = files.make_folder(folder.parent)
    recover(parent)
    for abandoned in parent.glob(f"{files.TEMPORARY_PREFIX}*"):  # a kill left it half-written
        if abandoned.is_dir() and time.time() - abandoned.stat().st_mtime > _ABANDONED_S:
            shutil.rmtree(abandoned, ignore_errors=True)
    if folder.exists() and not replace:
        raise DatasetExists(name=folder.name)
    with files.disk_errors(folder):
        temporary = Path(tempfile.mkdtemp(prefix=files.TEMPORARY_PREFIX, dir=parent))
        try:
            yield DatasetPaths(temporary)
            _take_place(temporary, folder, trash, replace=replace)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _take_place(temporary: Path, folder: Path, trash: Path | None, *, replace: bool) -> None:
    """Rename `temporary` to `folder`, which is without its old or new self for a moment only."""
    old = folder.with_name(f"{ASIDE}{folder.name}")
    with files.alone_in(folder.parent):
        if replace and folder.exists():
            if trash is not None:
                old = trash_place(trash, folder.name)
                files.make_folder(old.parent)
            folder.rename(old)
        try:
            temporary.rename(folder)
        except OSError as error:
            if old.exists():
                old.rename(folder)
            if folder.exists():  # somebody else made it meanwhile
                raise DatasetExists(name=folder.name) from error
            raise
        if trash is None:
            shutil.rmtree(old, ignore_errors=True)
        else:  # what was unsaved in it is what has taken its place
            DatasetPaths(old).draft.unlink(missing_ok=True)


def trash_place(trash: Path, name: str) -> Path:
    """Where a dataset that is deleted now lies: by the time, so that a name may be there several
    times."""
    return trash / datetime.now(UTC).strftime(TRASH_TIME) / name


def recover(parent: Path) -> None:
    """Put back datasets that a kill between two renames left aside; called before any look."""
    if not any(parent.glob(f"{ASIDE}*")):
        return
    with files.alone_in(parent):
        for old in parent.glob(f"{ASIDE}*"):
            folder = old.with_name(old.name.removeprefix(ASIDE))
            if folder.exists():
                shutil.rmtree(old, ignore_errors=True)
            else:
                old.rename(folder)


def write_lines(path: Path, lines: Iterator[str]) -> str:
    """Flushed to the drive; the SHA-256 of the file."""
    sha256 = hashlib.sha256()
    with path.open("wb") as stream:
        while chunk := list(islice(lines, _LINES_AT_ONCE)):
            raw = ("\n".join(chunk) + "\n").encode()
            sha256.update(raw)
            stream.write(raw)
        stream.flush()
        files.sync(stream.fileno())
    return sha256.hexdigest()
