"""Folders to a trash and back, by renames alone: nothing is copied, and what a kill interrupts can be
repeated. What belongs together, and where it lies in the trash, is the caller's knowledge."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

from mlx_finetuning import files
from mlx_finetuning.errors import StudioError

Moves = list[tuple[Path, Path]]
"""From where to where."""


def possible_moves(
    moves: Iterable[tuple[Path, Path]], taken: Callable[[Path], StudioError]
) -> Moves:
    """Those of which there is something to move. Raises `taken(target)` rather than overwrite."""
    possible = [(source, target) for source, target in moves if source.exists()]
    for _, target in possible:
        if target.exists():
            raise taken(target)
    return possible


def move(moves: Moves) -> None:
    """Rename in this order. Raises DiskFull."""
    for source, target in moves:
        files.make_folder(target.parent)
        with files.disk_errors(target):
            source.rename(target)


def remove_if_empty(folder: Path) -> None:
    """Remove what held the restored folders, unless something else lies in it."""
    with contextlib.suppress(OSError):
        folder.rmdir()
