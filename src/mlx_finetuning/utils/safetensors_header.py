"""The header of a safetensors file: which tensors it holds, and where their bytes lie.

The format: eight bytes with the header's length, the header as JSON, then the values
(https://huggingface.co/docs/safetensors). Reads no values, and knows no data type: whether a type
can be used and whether the file is as long as its header says is for the caller to judge.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning.language import _

LONGEST_HEADER = 100_000_000
"""Bytes; the limit of the format's own implementation."""


class HeaderDamaged(ValueError):
    """Its text is a Japanese sentence that says what is wrong."""


@dataclass(frozen=True)
class TensorEntry:
    """One tensor as the header describes it."""

    file: Path
    name: str
    dtype: str
    """As the format names it: F32, BF16, U8, …"""
    shape: tuple[int, ...]
    start: int
    """Position in the file, bytes."""
    stop: int


@dataclass(frozen=True)
class Header:
    """What a file holds."""

    tensors: dict[str, TensorEntry]
    values_start: int
    """Where the header ends, bytes from the file's start."""


def read(file: Path) -> Header:
    """The header of `file`, without its free metadata. Raises OSError, HeaderDamaged."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(LONGEST_HEADER, file.stat().st_size - 8):
            raise HeaderDamaged(_("safetensors形式ではありません。"))
        text = stream.read(length)
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HeaderDamaged(_("ヘッダーが壊れています。")) from error
    if not isinstance(entries, dict):
        raise HeaderDamaged(_("ヘッダーが壊れています。"))
    entries.pop("__metadata__", None)
    tensors, first = {}, 8 + length
    for name, entry in entries.items():
        try:
            dtype, shape = entry["dtype"], tuple(entry["shape"])
            start, stop = entry["data_offsets"]
        except (KeyError, TypeError, ValueError) as error:
            raise HeaderDamaged(_("{name} の記述が不正です。").format(name=name)) from error
        numbers = (*shape, start, stop)
        if not (isinstance(dtype, str) and all(isinstance(n, int) and n >= 0 for n in numbers)):
            raise HeaderDamaged(_("{name} の記述が不正です。").format(name=name))
        tensors[name] = TensorEntry(file, name, dtype, shape, first + start, first + stop)
    return Header(tensors, first)
