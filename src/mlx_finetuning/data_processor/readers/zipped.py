"""Zipped XML (.xlsx, .ods), opened only if it cannot exhaust the machine that reads it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import IO, Any

from mlx_finetuning.errors import WorkbookUnreadable

MAX_UNPACKED = 400 << 20
"""Bytes of all parts that are read."""
_SMALL = 32 << 20
_BOMB_RATIO = 100
"""Sheets are packed 5 to 40 times; what is packed tighter, and large, was made to burst."""
MAX_ELEMENTS = {b"<row": 400_000, b"<c ": 6_000_000, b"<mergeCell ": 50_000, b"<si": 6_000_000}
"""Starts of elements in a part, and how many of them are read."""
MAX_PARTS = 10_000
_BLOCK = 1 << 20


def open_zip(path: Path, parts: tuple[str, ...]) -> zipfile.ZipFile:
    """The archive, if what lies under `parts` (beginnings of names) is of a size to be read.

    Sizes are those of the directory, which `zipfile` never reads beyond. Raises WorkbookUnreadable,
    zipfile.BadZipFile.
    """
    archive = zipfile.ZipFile(path)
    read = [info for info in archive.infolist() if info.filename.startswith(parts)]
    unpacked = sum(info.file_size for info in read)
    packed = sum(info.compress_size for info in read)
    is_bomb = unpacked > _SMALL and unpacked > _BOMB_RATIO * max(1, packed)
    if unpacked > MAX_UNPACKED or is_bomb:
        reason = (
            f"展開すると{unpacked >> 20:,} MBになります（元の{unpacked // max(1, packed):,}倍）。"
            f"{MAX_UNPACKED >> 20} MBまで読めます。"
        )
        raise WorkbookUnreadable(path=str(path), reason=reason)
    if len(archive.infolist()) > MAX_PARTS:
        raise WorkbookUnreadable(path=str(path), reason="ZIPの中のファイルが多すぎます。")
    if any(info.flag_bits & 1 for info in read):
        raise WorkbookUnreadable(path=str(path), reason="ZIPが暗号化されています。")
    return archive


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
                    reason = (
                        f"シートが大きすぎます（{start.decode()[1:].strip()} が{limit:,}個より多い。"
                        "書式だけの空の行や列も数えます）。"
                    )
                    raise WorkbookUnreadable(path=str(path), reason=reason)
