"""Reads a GGUF file's metadata and tensor table; tensors stay memory-mapped.

A vocabulary of 128,000 tokens takes a fraction of a second, where gguf's own reader, which keeps a
NumPy view of every string, takes ten. Reads versions 2 and 3, little-endian; writes nothing.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import (
    GGML_QUANT_SIZES,
    GGUF_DEFAULT_ALIGNMENT,
    GGMLQuantizationType,
    GGUFValueType,
)
from numpy.typing import NDArray

from mlx_finetuning.errors import GgufUnreadable
from mlx_finetuning.language import _
from mlx_finetuning.utils import ggml_values

EVERYTHING = slice(None)
RowIndex = slice | NDArray[np.intp]
"""Which rows of a weight: NumPy's index of its first axis."""
MAGIC = b"GGUF"
VERSIONS = (2, 3)
"""They differ in nothing that is read here."""
MOST = 1 << 32
"""Entries of any list; a larger number means a damaged file."""
VOCABULARY = "tokenizer.ggml.tokens"
_LENGTH = struct.Struct("<Q")

SCALARS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}


Metadata = dict[str, Any]
"""Key → value: a number, a text, or a list of them."""


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file."""

    name: str
    shape: tuple[int, ...]
    """As NumPy orders it: rows first."""
    kind: GGMLQuantizationType
    data: NDArray[np.uint8]
    """[rows, bytes per row], memory-mapped."""

    def values(self, rows: RowIndex = EVERYTHING) -> NDArray[np.float32]:
        """The chosen rows, dequantized: [rows, columns]. Raises GgufUnreadable, QuantizerUnusable."""
        chosen = self.data[rows]
        if self.kind == GGMLQuantizationType.F32:
            return chosen.view(np.float32)
        try:
            return ggml_values.values(chosen, self.kind)
        except NotImplementedError as error:
            reason = _("型 {name} は扱えません。").format(name=self.kind.name)
            raise GgufUnreadable(path=self.name, reason=reason) from error


@dataclass(frozen=True)
class Gguf:
    """The content of a file."""

    metadata: Metadata
    tensors: dict[str, StoredTensor]


def read(path: Path) -> Gguf:
    """The file's content. Raises GgufUnreadable."""
    with _refusing_nonsense(path):
        return _Cursor(np.memmap(path, np.uint8, "r")).read_file()


def read_tensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors alone, in a quarter of the time: a vocabulary is passed over. Raises GgufUnreadable."""
    with _refusing_nonsense(path):
        return _Cursor(mapped(path), keeps_lists=False).read_file().tensors


def read_before_vocabulary(path: Path) -> Metadata:
    """The metadata that stands before the tokens' texts: what the model is, without the tens of
    milliseconds that a vocabulary takes. Raises GgufUnreadable."""
    with _refusing_nonsense(path):
        return _Cursor(np.memmap(path, np.uint8, "r")).read_fields(until=VOCABULARY)[0]


def mapped(path: Path) -> NDArray[np.uint8]:
    """A file's bytes, for who reads them in their order: the system then reads further ahead, and a third
    of a cold file's time is saved. Raises OSError, ValueError."""
    with path.open("rb") as stream:
        file = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    file.madvise(mmap.MADV_SEQUENTIAL)
    return np.frombuffer(file, np.uint8)


@contextlib.contextmanager
def _refusing_nonsense(path: Path) -> Iterator[None]:
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise ValueError(_("ファイルではありません。"))
        yield
    except (OSError, ValueError, LookupError, OverflowError, RecursionError, struct.error) as error:
        reason = _("形式が違うか、壊れています: {error}").format(error=error)
        raise GgufUnreadable(path=str(path), reason=reason) from error


class _Cursor:
    """A position in the mapped file. Raises ValueError, KeyError, struct.error on nonsense."""

    def __init__(self, data: NDArray[np.uint8], *, keeps_lists: bool = True) -> None:
        """keeps_lists: whether lists of texts are read, else passed over."""
        self._data = data
        self._keeps_lists = keeps_lists
        self._view = data.data
        self._position = 0

    def read_fields(self, until: str = "") -> tuple[Metadata, int]:
        """The metadata from the file's start, before the key `until`; and how many tensors follow."""
        magic, version = self._bytes(4), self._number("I")
        if magic != MAGIC or version not in VERSIONS:
            raise ValueError(f"{magic!r} {version}")
        tensor_count, field_count = self._count(), self._count()
        metadata: Metadata = {}
        for __ in range(field_count):
            key = self._text()
            if key == until:
                break
            metadata[key] = self._value(self._number("I"))
        return metadata, tensor_count

    def read_file(self) -> Gguf:
        """The whole file, from its start."""
        metadata, tensor_count = self.read_fields()
        infos = [self._tensor_info() for __ in range(tensor_count)]
        alignment = metadata.get("general.alignment", GGUF_DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"general.alignment {alignment!r}")
        values_start = -(-self._position // alignment) * alignment
        tensors = {}
        for name, shape, kind, offset in infos:
            block, block_bytes = GGML_QUANT_SIZES[kind]
            if shape[-1] % block:
                raise ValueError(
                    _("{name}: 行の長さ {shape} が {block} の倍数でありません").format(
                        name=name, shape=shape[-1], block=block
                    )
                )
            width = shape[-1] // block * block_bytes
            rows = math.prod(shape[:-1])  # NumPy's product would wrap around
            start, stop = values_start + offset, values_start + offset + rows * width
            if stop > self._data.size:
                raise ValueError(_("{name} の値が途中で切れています").format(name=name))
            data = self._data[start:stop].reshape(rows, width)
            tensors[name] = StoredTensor(name, shape, kind, data)
        if len(tensors) != tensor_count:
            raise ValueError(_("同じ名前の重みがあります"))
        return Gguf(metadata, tensors)

    def _tensor_info(self) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
        """Name, shape (rows first), type, and where the values lie behind the first ones, bytes."""
        name, dimensions = self._text(), self._number("I")
        if not 1 <= dimensions <= 8:
            raise ValueError(_("{name}: {dimensions}次元").format(name=name, dimensions=dimensions))
        shape = tuple(self._number("Q") for __ in range(dimensions))
        if not all(shape):
            raise ValueError(_("{name}: 空の重み").format(name=name))
        kind = GGMLQuantizationType(self._number("I"))
        return name, shape[::-1], kind, self._number("Q")

    def _value(self, kind: int) -> Any:
        if kind == GGUFValueType.STRING:
            return self._text()
        if kind != GGUFValueType.ARRAY:
            return self._number(SCALARS[GGUFValueType(kind)])
        kind, count = self._number("I"), self._count()
        if kind == GGUFValueType.STRING:
            return self._texts(count) if self._keeps_lists else self._pass_texts(count)
        if kind == GGUFValueType.ARRAY:
            return [self._value(kind) for __ in range(count)]
        layout = struct.Struct(f"<{count}{SCALARS[GGUFValueType(kind)]}")
        return list(layout.unpack(self._bytes(layout.size)))

    def _count(self) -> int:
        count = int(self._number("Q"))
        if count > min(MOST, len(self._view)):
            raise ValueError(_("件数 {count}").format(count=count))
        return count

    def _text(self) -> str:
        return self._texts(1)[0]

    def _texts(self, count: int) -> list[str]:
        """Without a call for each part of a text: a vocabulary is a hundred thousand of them."""
        view, end = self._view, self._position
        texts = []
        for __ in range(count):
            start = end + _LENGTH.size
            end = start + _LENGTH.unpack_from(view, end)[0]
            if end > len(view):
                raise ValueError(_("途中で切れています"))
            texts.append(str(view[start:end], "utf-8"))
        self._position = end
        return texts

    def _pass_texts(self, count: int) -> None:
        view, end = self._view, self._position
        for __ in range(count):
            end += _LENGTH.size + _LENGTH.unpack_from(view, end)[0]
        if end > len(view):
            raise ValueError(_("途中で切れています"))
        self._position = end

    def _number(self, layout: str) -> Any:
        size = struct.calcsize(f"<{layout}")
        return struct.unpack(f"<{layout}", self._bytes(size))[0]

    def _bytes(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._view):
            raise ValueError(_("途中で切れています"))
        data = self._view[self._position : end].tobytes()
        self._position = end
        return data
