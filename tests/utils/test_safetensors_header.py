"""The header reader, against safetensors' own writer."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mlx_finetuning.utils import safetensors_header
from mlx_finetuning.utils.safetensors_header import HeaderDamaged


def test_ranges_hold_the_values_of_safetensors_own_writer(tmp_path: Path) -> None:
    values: dict[str, np.ndarray] = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.arange(5, dtype=np.float16),
        "empty": np.zeros((0, 4), np.int64),
    }
    file = tmp_path / "model.safetensors"
    save_file(values, file, metadata={"format": "pt"})
    header = safetensors_header.read(file)
    data = file.read_bytes()
    assert header.tensors.keys() == values.keys()
    for name, expected in values.items():
        entry = header.tensors[name]
        assert (entry.file, entry.name, entry.shape) == (file, name, expected.shape)
        assert data[entry.start : entry.stop] == expected.tobytes()
    assert [header.tensors[name].dtype for name in values] == ["F32", "F16", "I64"]
    assert header.values_start == min(entry.start for entry in header.tensors.values())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"[]", "ヘッダーが壊れています"),
        (b"{]", "ヘッダーが壊れています"),
        (b'{"w": 1}', "w の記述が不正です"),
        (b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}', "w の記述が不正です"),
        (b'{"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}', "w の記述が不正です"),
        (b'{"w": {"dtype": 7, "shape": [1], "data_offsets": [0, 4]}}', "w の記述が不正です"),
    ],
)
def test_damaged_header_says_what_is_wrong(tmp_path: Path, text: bytes, reason: str) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text + b"0000")
    with pytest.raises(HeaderDamaged, match=reason):
        safetensors_header.read(file)


@pytest.mark.parametrize("data", [b"", b"short", struct.pack("<Q", 100) + b"{}"])
def test_other_files_are_no_safetensors(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(data)
    with pytest.raises(HeaderDamaged, match="safetensors形式ではありません"):
        safetensors_header.read(file)
