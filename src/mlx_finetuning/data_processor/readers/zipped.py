"""Zipped XML (.xlsx, .ods), opened only if it cannot exhaust the machine that reads it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import IO, Any

from mlx_finetuning.errors import WorkbookUnreadable
from mlx_finetuning.language import _
from mlx_finetuning.utils import archives

MAX_ELEMENTS = {b"<row": 400_000, b"<c ": 6_000_000, b"<mergeCell ": 50_000, b"<si": 6_000_000}
"""Starts of elements in a part, and how many of them are read."""
_BLOCK = 1 << 20


def open_zip(path: Path, parts: tuple[str, ...]) -> zipfile.ZipFile:
    """The archive, if it may be read: `archives.open_zip`. Raises WorkbookUnreadable,
    zipfile.BadZipFile."""
    return archives.open_zip(
        path, parts, lambda reason: WorkbookUnreadable(path=str(path), reason=reason)
    )


class Transitional(zipfile.ZipFile):
    """An archive whose Strict Open XML parts are given with the namespaces that everybody else uses. They stand
    at the head of a part."""

    def open(self, name: Any, mode: Any = "r", *arguments: Any, **named: Any) -> IO[bytes]:
        """The part, to be read."""
        stream = super().open(name, mode, *arguments, **named)
        head = stream.read(_BLOCK)
        if _STRICT not in head:
            return io.BufferedReader(_Joined(head, stream))
        for strict, usual in _NAMESPACES:
            head = head.replace(_STRICT + strict, b"http://schemas.openxmlformats.org/" + usual)
        return io.BufferedReader(_Joined(head, stream))


_STRICT = b"http://purl.oclc.org/ooxml/"
_NAMESPACES = (
    (b"spreadsheetml/main", b"spreadsheetml/2006/main"),
    (b"officeDocument/relationships", b"officeDocument/2006/relationships"),
    (b"officeDocument/extendedProperties", b"officeDocument/2006/extended-properties"),
    (b"drawingml/main", b"drawingml/2006/main"),
)


class _Joined(io.RawIOBase):
    """Bytes, and then what is left of a stream."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head, self._rest = io.BytesIO(head), rest

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes, as many as there are."""
        block = self._head.read(len(buffer)) or self._rest.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)


def require_countable(archive: zipfile.ZipFile, part: str, path: Path) -> None:
    """Raises WorkbookUnreadable if a part holds more rows or cells, empty ones included, than can
    be read in time: they are counted in its bytes, without parsing it."""
    counts = dict.fromkeys(MAX_ELEMENTS, 0)
    with archive.open(part) as stream:
        rest = b""
        while block := stream.read(_BLOCK):
            for start in counts:
                counts[start] += block.count(start) + (rest + block[:10]).count(start)
            rest = block[-9:]
            for start, limit in MAX_ELEMENTS.items():
                if counts[start] > limit:
                    reason = _(
                        "シートが大きすぎます（{element} が{limit:,}個より多い。書式だけの空の行や列も数えます）。"
                    ).format(element=start.decode()[1:].strip(), limit=limit)
                    raise WorkbookUnreadable(path=str(path), reason=reason)
