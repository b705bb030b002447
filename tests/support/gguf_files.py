"""Reads GGUF files as plain values, and writes changed copies of them: planted faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, GGUFWriter, dequantize

Values = dict[str, Any]
Tensors = dict[str, np.ndarray]


def metadata(path: Path) -> Values:
    return _metadata(GGUFReader(path))


def _metadata(reader: GGUFReader) -> Values:
    names = (name for name in reader.fields if not name.startswith("GGUF."))
    return {name: reader.fields[name].contents() for name in names}


def values(path: Path) -> Tensors:
    """Every tensor as float32, in the shape that NumPy gives it."""
    return {
        tensor.name: np.array(dequantize(tensor.data, tensor.tensor_type)).reshape(
            tuple(reversed(tensor.shape.tolist()))
        )
        for tensor in GGUFReader(path).tensors
    }


def types(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(path).tensors}


def rewrite(
    source: Path,
    target: Path,
    change_tensors: Callable[[Tensors], None] = lambda tensors: None,
    change_metadata: Callable[[Values], None] = lambda values: None,
) -> Path:
    """A copy of an unquantized file with faults planted in it."""
    reader = GGUFReader(source)
    fields = _metadata(reader)
    kinds = {name: (reader.fields[name].types[0], reader.fields[name].types[-1]) for name in fields}
    tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    change_metadata(fields)
    change_tensors(tensors)
    writer = GGUFWriter(target, fields.pop("general.architecture"))
    for name, value in fields.items():
        kind, inner = kinds[name]
        writer.add_key_value(name, value, kind, inner if kind != inner else None)
    for name, data in tensors.items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
