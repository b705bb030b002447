"""Whether the packed parts of a PDF are of a size to be unpacked, before PDFium unpacks them whole.

Follows the filters of a part (ISO 32000-1, 7.4) that can make much of little, one upon the other;
formats of pictures are left alone.
"""

from __future__ import annotations

import base64
import binascii
import mmap
import re
import zlib
from collections.abc import Callable
from pathlib import Path

from mlx_finetuning.errors import DocumentUnreadable
from mlx_finetuning.language import _

MAX_STREAM = 64 << 20
"""Bytes of one part: a page of 300 dots per inch in colour has 26 million."""
MAX_ALL = 1 << 30
MAX_LZW = 4 << 20
"""Packed bytes of text; unpacking LZW here takes about 2 s for a million."""
_BLOCK = 1 << 20
_HEAD = 2000
"""Bytes before a part that may hold its dictionary."""
_START = re.compile(rb"(?<!end)stream\r?\n")
_FILTER = re.compile(rb"/(?:Filter|F)\s*(\[[^\]]*\]|/\w+)")
_LENGTH = re.compile(rb"/Length\s+(\d+)(?!\s+\d+\s+R)")
_NAME = re.compile(rb"/(\w+)")
_FLATE = re.compile(rb"[\x08\x18\x28\x38\x48\x58\x68\x78]")


def require_unpackable(path: Path) -> None:
    """Raises DocumentUnreadable."""
    if not path.stat().st_size:
        return
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        in_all = 0
        for start in _START.finditer(raw):
            length = _length(raw, start.start(), start.end())
            in_all += length
            if length > MAX_STREAM or in_all > MAX_ALL:
                reason = _("展開すると大きすぎる部分があります（{most} MBまで）。").format(
                    most=MAX_STREAM >> 20
                )
                raise DocumentUnreadable(path=str(path), reason=reason)


def _length(raw: mmap.mmap, head: int, start: int) -> int:
    """Bytes of the part that begins at `start`, unpacked; just beyond MAX_STREAM where there are more."""
    dictionary = raw[max(0, head - _HEAD) : head].rpartition(b"obj")[2]
    found = _FILTER.search(dictionary)
    names = _NAME.findall(found[1]) if found else []
    if not names and _FLATE.match(raw, start):  # the filter stands in an object of its own
        names = [b"FlateDecode"]
    if names[:1] in ([b"FlateDecode"], [b"Fl"]):  # it says itself where it ends
        end = len(raw)
    else:
        said = _LENGTH.search(dictionary)
        found_end = raw.find(b"endstream", start)
        # The word may stand inside: whoever reads goes by the length.
        end = max(found_end if found_end > 0 else len(raw), start + int(said[1]) if said else 0)
    longest = 0
    with memoryview(raw)[start:end] as part:
        data: bytes | memoryview = part
        for name in names:
            unpack = _UNPACK.get(name)
            if unpack is None:
                break
            if unpack is _lzw:
                if b"/Image" in dictionary:  # no picture is drawn
                    break
                if len(data) > MAX_LZW:
                    return MAX_STREAM + 1
            data = unpack(data if unpack is _flate else bytes(data))
            longest = max(longest, len(data))
            if longest > MAX_STREAM:
                break
    return longest


def _flate(data: bytes | memoryview) -> bytes:
    unpacker, waiting, at = zlib.decompressobj(), b"", 0
    parts, length = [], 0
    while not unpacker.eof and length <= MAX_STREAM and (waiting or at < len(data)):
        if not waiting:
            waiting, at = bytes(data[at : at + _BLOCK]), at + _BLOCK
        try:
            parts.append(unpacker.decompress(waiting, _BLOCK))
        except zlib.error:
            break  # as far as it goes, as readers do
        length += len(parts[-1])
        waiting = unpacker.unconsumed_tail
    return b"".join(parts)


def _lzw(data: bytes) -> bytes:
    """Codes of 9 to 12 bits, 256 to begin anew, 257 to end; longer codes one entry early, as is usual."""
    first = [bytes([value]) for value in range(256)] + [b"", b""]
    table, before = [*first], b""
    out, length = [], 0
    held = bits = 0
    for byte in data:
        held, bits = held << 8 | byte, bits + 8
        width = min(12, max(9, (len(table) + 1).bit_length()))
        if bits < width:
            continue
        bits -= width
        code, held = held >> bits, held & (1 << bits) - 1
        if code == 256:
            table, before = [*first], b""
            continue
        if code == 257 or code > len(table) or (code == len(table) and not before):
            break
        said = table[code] if code < len(table) else before + before[:1]
        out.append(said)
        length += len(said)
        if length > MAX_STREAM:
            break
        if before and len(table) < 4096:
            table.append(before + said[:1])
        before = said
    return b"".join(out)


def _run_length(data: bytes) -> bytes:
    out, at, length = [], 0, 0
    while at < len(data) and data[at] != 128 and length <= MAX_STREAM:
        count = data[at]
        run = (
            data[at + 1 : at + 2 + count] if count < 128 else data[at + 1 : at + 2] * (257 - count)
        )
        out.append(run)
        length += len(run)
        at += 2 + count if count < 128 else 2
    return b"".join(out)


def _ascii85(data: bytes) -> bytes:
    try:
        return base64.a85decode(data.partition(b"~>")[0].strip())
    except ValueError:
        return b""


def _hex(data: bytes) -> bytes:
    try:
        return binascii.unhexlify(re.sub(rb"\s", b"", data.partition(b">")[0]))
    except binascii.Error:
        return b""


_UNPACK: dict[bytes, Callable[..., bytes]] = {
    **dict.fromkeys((b"FlateDecode", b"Fl"), _flate),
    **dict.fromkeys((b"LZWDecode", b"LZW"), _lzw),
    **dict.fromkeys((b"RunLengthDecode", b"RL"), _run_length),
    **dict.fromkeys((b"ASCII85Decode", b"A85"), _ascii85),
    **dict.fromkeys((b"ASCIIHexDecode", b"AHx"), _hex),
}
