"""TensorBoard's event files: scalars as `Event` messages in TFRecord frames, with their checksums.

Only what scalars need of the two formats is written; nothing is read.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_VERSION = "brain.Event:2"
_POLYNOMIAL = 0x82F63B78  # CRC-32C, reflected
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""Wire types of protocol buffers."""


@dataclass(frozen=True)
class Scalars:
    """What was measured at one step."""

    wall_time_s: float
    """Since 1970."""
    step: int
    values: Mapping[str, float]


def content(started_s: float, lines: Iterable[Scalars]) -> bytes:
    """A whole file."""
    records = [_field(1, _FIXED64) + struct.pack("<d", started_s) + _bytes(3, _VERSION.encode())]
    for line in lines:
        # Floats not by struct, which refuses what is too large; array makes it infinite.
        values = (
            _bytes(1, name.encode()) + _field(2, _FIXED32) + array("f", [value]).tobytes()
            for name, value in line.values.items()
        )
        summary = b"".join(_bytes(1, value) for value in values)
        time = _field(1, _FIXED64) + struct.pack("<d", line.wall_time_s)
        step = _field(2, _VARINT) + _varint(line.step)
        records.append(time + step + _bytes(5, summary))
    frames = []
    for record in records:
        length = struct.pack("<Q", len(record))
        frames += [length, _masked_checksum(length), record, _masked_checksum(record)]
    return b"".join(frames)


def _masked_checksum(data: bytes) -> bytes:
    value = crc32c(data)
    rotated = (value >> 15 | value << 17) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + 0xA282EAD8) & 0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """Castagnoli's CRC-32, of which the standard library has none."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def _crc_of_byte(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE = tuple(map(_crc_of_byte, range(256)))


def _field(number: int, wire: int) -> bytes:
    return bytes([number << 3 | wire])


def _bytes(number: int, value: bytes) -> bytes:
    return _field(number, _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
