"""Reads safetensors files by their header, memory-mapped, rows as float32; writes them streamed.

BF16 needs no library: its bits are the upper half of a float32. Reads no pickled formats.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mlx_finetuning.errors import WeightsUnreadable
from mlx_finetuning.language import _
from mlx_finetuning.utils import safetensors_header
from mlx_finetuning.utils.gguf_reader import RowIndex
from mlx_finetuning.utils.safetensors_header import HeaderDamaged

STORED: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "U32": np.dtype("<u4"),  # MLX's packed weights
    "U8": np.dtype("u1"),  # MXFP4
}
"""How each supported type lies in the file."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a mapped file."""

    name: str
    kind: str
    """One of `STORED`."""
    stored: NDArray[Any]
    """The mapped values, in the shape of the tensor; BF16 as uint16."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As the file states it."""
        return self.stored.shape

    def rows(self, which: RowIndex) -> NDArray[np.float32]:
        """The chosen rows (elements, for a vector) as C-contiguous float32."""
        values = self.stored[which]
        if self.kind != "BF16":
            return np.ascontiguousarray(values, np.float32)
        wide = values.astype(np.uint32)
        return (wide << 16).view(np.float32)


def open_files(paths: Iterable[Path]) -> dict[str, Tensor]:
    """Every tensor of the files, by name. Raises WeightsUnreadable."""
    tensors: dict[str, Tensor] = {}
    for path in paths:
        try:
            data = np.memmap(path, np.uint8, "r")
            header = safetensors_header.read(path)
        except HeaderDamaged as error:
            raise WeightsUnreadable(path=str(path), reason=str(error)) from error
        except (OSError, ValueError) as error:
            raise WeightsUnreadable(
                path=str(path), reason=_("開けません: {error}").format(error=error)
            ) from error
        for name, entry in header.tensors.items():
            if entry.dtype not in STORED:
                supported = _("、").join(STORED)
                reason = _("{name} の型 {dtype} は扱えません（扱えるのは {supported}）。").format(
                    name=name, dtype=entry.dtype, supported=supported
                )
                raise WeightsUnreadable(path=str(path), reason=reason)
            dtype = STORED[entry.dtype]
            size = math.prod(entry.shape) * dtype.itemsize  # NumPy's product would wrap around
            if not entry.start <= entry.stop <= data.size or entry.stop - entry.start != size:
                raise WeightsUnreadable(
                    path=str(path), reason=_("{name} の値が途中で切れています。").format(name=name)
                )
            if name in tensors:
                raise WeightsUnreadable(
                    path=str(path), reason=_("{name} が重複しています。").format(name=name)
                )
            values = data[entry.start : entry.stop].view(dtype).reshape(entry.shape)
            tensors[name] = Tensor(name, entry.dtype, values)
    return tensors


def open_model(folder: Path) -> dict[str, Tensor]:
    """The weights of a Hugging Face folder, one file or shards. Raises WeightsUnreadable."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return open_files([folder / "model.safetensors"])
    try:
        placement = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shards = sorted(set(placement.values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise WeightsUnreadable(path=str(index), reason=_("索引の形が違います。")) from error
    tensors = open_files(folder / Path(name).name for name in shards)
    missing = sorted(set(placement) - set(tensors))
    if missing:
        raise WeightsUnreadable(
            path=str(index), reason=_("重みが足りません: {missing} など").format(missing=missing[0])
        )
    return tensors


@dataclass(frozen=True)
class Spec:
    """A tensor that is to be written."""

    name: str
    kind: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Of its values in the file."""
        return int(np.prod(self.shape, dtype=np.int64)) * STORED[self.kind].itemsize


def write(
    stream: IO[bytes], specs: Sequence[Spec], blocks: Iterable[NDArray[Any]], made_for: str
) -> None:
    """A whole file: header, then the values of all tensors in the order of `specs`.

    made_for: the `format` in its metadata, `pt` or `mlx`.
    """
    header: dict[str, object] = {"__metadata__": {"format": made_for}}
    start = 0
    for spec in specs:
        offsets = [start, start + spec.nbytes]
        header[spec.name] = {"dtype": spec.kind, "shape": spec.shape, "data_offsets": offsets}
        start = offsets[1]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    stream.write(struct.pack("<Q", len(text)) + text)
    for block in blocks:
        stream.write(np.ascontiguousarray(block).data)
