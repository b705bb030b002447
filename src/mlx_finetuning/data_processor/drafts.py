"""Edits that are not saved yet, in a file beside what they are about: they outlive page and server.

Several tabs may have one open: a writer says what it has seen, and fails if that is no longer so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mlx_finetuning import files
from mlx_finetuning.data_processor.edits import Edit
from mlx_finetuning.errors import DraftChanged

OF_UPLOAD = ".draft.json"
"""The draft's name in the folder of a file that was handed in."""


@dataclass(frozen=True)
class _Draft:
    edits: tuple[Edit, ...]


def read(path: Path) -> tuple[Edit, ...] | None:
    """None where there is no draft. Raises RecordDamaged, NewerSchema."""
    try:
        return files.read_record(path, _Draft).edits
    except FileNotFoundError:
        return None


def write(path: Path, edits: Sequence[Edit], seen: tuple[Edit, ...] | None) -> None:
    """Replace the draft that was `seen`. Raises DraftChanged if it is another now, DiskFull."""
    with files.alone_in(path.parent):
        if read(path) != seen:
            raise DraftChanged()
        files.write_json(path, asdict(_Draft(tuple(edits))))


def discard(path: Path) -> None:
    """Whatever is in it."""
    path.unlink(missing_ok=True)
