"""What the user wrote about a run: its name, a text and tags, in the run's folder. Changes nothing else."""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from mlx_finetuning import files
from mlx_finetuning.errors import NewerSchema, RecordDamaged
from mlx_finetuning.workspace import RunPaths

_BETWEEN = re.compile(r"[\s,、，#＃]+")


@dataclass(frozen=True)
class Note:
    """What the user wrote about a run."""

    text: str = ""
    tags: tuple[str, ...] = ()
    name: str = ""
    """What the run is called in lists."""
    pinned: bool = False
    """Whether it stands first there."""


def read(paths: RunPaths) -> Note:
    """The note, empty where there is none. Raises RecordDamaged, NewerSchema."""
    with contextlib.suppress(FileNotFoundError):
        return files.read_record(paths.notes, Note)
    return Note()


def read_or_empty(paths: RunPaths) -> Note:
    """For lists, where one unreadable note must not hide the others."""
    with contextlib.suppress(RecordDamaged, NewerSchema):
        return read(paths)
    return Note()


def write(paths: RunPaths, note: Note) -> None:
    """Replace the note, a damaged one too. Raises NewerSchema, DiskFull."""
    files.write_json(paths.notes, asdict(note))


def tags_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Tags as typed, `本番 料金` or `#本番、#料金`: each once, in their order."""
    words = (word for text in texts for word in _BETWEEN.split(unicodedata.normalize("NFC", text)))
    return tuple(dict.fromkeys(word for word in words if word))
