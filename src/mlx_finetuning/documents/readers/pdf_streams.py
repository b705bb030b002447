"""Whether the packed parts of a PDF are of a size to be unpacked, before PDFium unpacks them whole.

Looks at what is packed by Flate alone, which nearly all is. What is packed twice, or by LZW, is not
seen: such a file is stopped by who runs the reader in a process of its own.
"""

from __future__ import annotations

import mmap
import re
import zlib
from pathlib import Path

from mlx_finetuning.errors import DocumentUnreadable

MAX_STREAM = 64 << 20
"""Bytes of one part: a page of 300 dots per inch in colour has 26 million."""
MAX_ALL = 1 << 30
_BLOCK = 1 << 20
_START = re.compile(rb"stream\r?\n(?=[\x08\x18\x28\x38\x48\x58\x68\x78])")


def require_unpackable(path: Path) -> None:
    """Raises DocumentUnreadable."""
    if not path.stat().st_size:
        return
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        in_all = 0
        for start in _START.finditer(raw):
            unpacker, at, length = zlib.decompressobj(), start.end(), 0
            waiting = b""
            while not unpacker.eof and (waiting or at < len(raw)):
                if not waiting:
                    waiting, at = raw[at : at + _BLOCK], at + _BLOCK
                try:
                    length += len(unpacker.decompress(waiting, _BLOCK))
                except zlib.error:
                    break
                waiting = unpacker.unconsumed_tail
                if length > MAX_STREAM or in_all + length > MAX_ALL:
                    reason = f"展開すると大きすぎる部分があります（{MAX_STREAM >> 20} MBまで）。"
                    raise DocumentUnreadable(path=str(path), reason=reason)
            in_all += length
