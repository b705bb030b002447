"""ggml's blocks as arrays of MLX's packed form, or of `six_bit`.

`scale * level + bias` in float32 is then what llama.cpp computes, to the last bit, because every
product there fits into float32's 24 bits. The blocks' layouts are those of llama.cpp's `ggml-common.h`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Type
from gguf.quants import Q4_K
from numpy.typing import NDArray

from mlx_finetuning.utils.gguf_reader import EVERYTHING, RowIndex

BLOCK_VALUES = 1 << 18
"""Values unpacked at once: few enough to stay in the processor's cache."""

Bytes = NDArray[Any]
"""uint8; NumPy's types widen what is shifted."""
Floats = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]
"""A matrix's arrays, by the layer's names for them; `weight` are the levels."""


def packed(rows: Bytes, kind: Type, which: RowIndex = EVERYTHING) -> Arrays:
    """The layer's arrays of the chosen rows, in the order in which they are chosen.

    rows: [rows, bytes], of a type in `PACKED`.
    """
    bits, unpack = PACKED[kind]
    step = max(1, BLOCK_VALUES // unpack(rows[:1])["weight"].size)
    if isinstance(which, slice):
        rows, which = rows[which], EVERYTHING
    count = len(rows) if isinstance(which, slice) else len(which)
    arrays: Arrays = {}
    for start in range(0, count, step):
        block = slice(start, start + step)
        chosen = rows[block if isinstance(which, slice) else which[block]]
        for name, of_blocks in unpack(chosen).items():
            part = of_blocks.reshape(len(chosen), -1)
            if name == "weight":
                part = in_words(part, bits)
            if name not in arrays:
                arrays[name] = np.empty((count, part.shape[1]), part.dtype)
            arrays[name][block] = part
    return arrays


def packed_bytes(kind: Type, values: int) -> int:
    """What `packed` makes of so many values."""
    bits, unpack = PACKED[kind]
    block, size = GGML_QUANT_SIZES[kind]
    arrays = unpack(np.zeros((1, size), np.uint8))
    of_block = block * bits // 8 + sum(
        array.nbytes for name, array in arrays.items() if name != "weight"
    )
    return values // block * of_block


def in_words(levels: Bytes, bits: int) -> NDArray[np.uint32]:
    """[rows, columns] → [rows, columns * bits / 32], the first column in the lowest bits."""
    if bits == 8:
        data = levels
    elif bits == 4:
        data = levels[:, ::2] | levels[:, 1::2] << 4
    elif bits == 6:
        a, b, c, d = (levels[:, start::4] for start in range(4))
        data = np.stack([a | b << 6, b >> 2 | c << 4, c >> 4 | d << 2], axis=-1)
        data = data.reshape(len(levels), -1)
    else:
        single = np.unpackbits(levels[..., None], axis=-1, count=bits, bitorder="little")
        data = np.packbits(single.reshape(len(levels), -1), axis=-1, bitorder="little")
    return np.ascontiguousarray(data).view(np.uint32)


def _blocks_of_32(bits: int, zero: int | None) -> Callable[[Bytes], Arrays]:
    """Q4_0, Q4_1, Q5_0, Q5_1, Q8_0. zero: the level that stands for 0; None where the block says by
    an offset what level 0 stands for."""
    sizes = [
        2,
        *([2] if zero is None else []),
        *([4] if bits == 5 else []),
        32 if bits == 8 else 16,
    ]

    def unpack(rows: Bytes) -> Arrays:
        fields = _fields(rows, sizes)
        scale = _halves(fields[0])
        bias = _halves(fields[1]) if zero is None else -zero * scale
        levels = fields[-1]
        # Signed: 128 more. Else all lower halves of the bytes come first, then the upper ones.
        levels = levels ^ 128 if bits == 8 else np.concatenate([levels & 15, levels >> 4], axis=1)
        if bits == 5:
            levels = levels | np.unpackbits(fields[-2], axis=1, bitorder="little") << 4
        return {"weight": levels, "scales": scale, "biases": bias}

    return unpack


def _blocks_of_256(bits: int) -> Callable[[Bytes], Arrays]:
    """Q4_K, Q5_K: eight groups with numbers of six bits for scale and offset."""
    sizes = [2, 2, 12, *([32] if bits == 5 else []), 128]

    def unpack(rows: Bytes) -> Arrays:
        fields = _fields(rows, sizes)
        scales, minima = (numbers.astype(np.float32) for numbers in Q4_K.get_scale_min(fields[2]))
        # 32 bytes hold two groups of 32 columns, one in their lower halves.
        pairs = fields[-1].reshape(-1, 4, 32)
        levels = np.stack([pairs & 15, pairs >> 4], axis=2).reshape(-1, 8, 32)
        if bits == 5:
            # Bit g of byte i belongs to column i of group g.
            fifth = np.unpackbits(fields[3][:, None], axis=1, bitorder="little")
            levels = levels | fifth.reshape(-1, 8, 32) << 4
        return {
            "weight": levels,
            "scales": _halves(fields[0]) * scales,
            "biases": -_halves(fields[1]) * minima,
        }

    return unpack


def _q6_k(rows: Bytes) -> Arrays:
    """The lower four bits of the levels, the upper two, and a signed byte for every 16 columns."""
    lower, upper, scales, block_scales = _fields(rows, [128, 64, 16, 2])
    # 64 bytes hold 128 columns: in their lower halves the first 64.
    low = lower.reshape(-1, 2, 64)
    low = np.stack([low & 15, low >> 4], axis=2).reshape(-1, 8, 32)
    # 32 bytes hold two bits each of four times 32 columns.
    high = upper.reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[:, None] & 3
    return {
        "weight": low | high.reshape(-1, 8, 32) << 4,
        "scales": scales.view(np.int8),
        "block_scales": np.ascontiguousarray(block_scales).view(np.float16),
    }


def _fields(rows: Bytes, sizes: list[int]) -> list[Bytes]:
    """The fields of all blocks, [blocks, size] each."""
    blocks = np.ascontiguousarray(rows).reshape(-1, sum(sizes))
    return np.split(blocks, np.cumsum(sizes)[:-1], axis=1)


def _halves(field: Bytes) -> Floats:
    """float16 as float32: [blocks, 1]."""
    return np.ascontiguousarray(field).view(np.float16).astype(np.float32)


PACKED: dict[Type, tuple[int, Callable[[Bytes], Arrays]]] = {
    Type.Q4_0: (4, _blocks_of_32(4, zero=8)),
    Type.Q4_1: (4, _blocks_of_32(4, zero=None)),
    Type.Q5_0: (5, _blocks_of_32(5, zero=16)),
    Type.Q5_1: (5, _blocks_of_32(5, zero=None)),
    Type.Q8_0: (8, _blocks_of_32(8, zero=128)),
    Type.Q4_K: (4, _blocks_of_256(4)),
    Type.Q5_K: (5, _blocks_of_256(5)),
    Type.Q6_K: (6, _q6_k),
}
"""Bits of a level in MLX, and how blocks come apart."""
