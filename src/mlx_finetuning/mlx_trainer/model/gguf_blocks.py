"""ggml's blocks of a scale and an offset per 32 columns, as the three arrays of MLX's packed form.

`scale * level + bias` in float32 is then what llama.cpp computes, to the last bit, because every
product there fits into float32's 24 bits. The blocks' layouts are those of llama.cpp's `ggml-common.h`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.quants import Q4_K
from numpy.typing import NDArray

GROUP = 32
"""Columns that share a scale."""
BLOCK_VALUES = 1 << 22
"""Values unpacked at once, which bounds the memory beside the result."""

Bytes = NDArray[Any]
"""uint8; NumPy's types widen what is shifted."""
Floats = NDArray[np.float32]
Unpacked = tuple[Bytes, Floats, Floats]
"""Of each block: levels [blocks, columns], scales and biases [blocks, columns / 32]."""


def packed(
    rows: Bytes, kind: Type, order: NDArray[np.intp] | None
) -> tuple[NDArray[np.uint32], Floats, Floats]:
    """MLX's weight, scales and biases of a matrix; row i of them is row `order[i]` of `rows`.

    rows: [rows, bytes], of a type in `PACKED`.
    """
    bits, unpack = PACKED[kind]
    parts = []
    first, _, _ = unpack(rows[:1])
    step = max(1, BLOCK_VALUES // first.size)
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        chosen = rows[block if order is None else order[block]]
        levels, scales, biases = (part.reshape(len(chosen), -1) for part in unpack(chosen))
        parts.append((in_words(levels, bits), scales, biases))
    words, scales, biases = (np.concatenate(part) for part in zip(*parts, strict=True))
    return words, scales, biases


def in_words(levels: Bytes, bits: int) -> NDArray[np.uint32]:
    """[rows, columns] → [rows, columns * bits / 32], the first column in the lowest bits."""
    if bits == 8:
        data = levels
    elif bits == 4:
        data = levels[:, ::2] | levels[:, 1::2] << 4
    else:
        single = np.unpackbits(levels[..., None], axis=-1, count=bits, bitorder="little")
        data = np.packbits(single.reshape(len(levels), -1), axis=-1, bitorder="little")
    return np.ascontiguousarray(data).view(np.uint32)


def _blocks_of_32(bits: int, zero: int | None) -> Callable[[Bytes], Unpacked]:
    """Q4_0, Q4_1, Q5_0, Q5_1, Q8_0. zero: the level that stands for 0; None where the block says by
    an offset what level 0 stands for."""
    sizes = [
        2,
        *([2] if zero is None else []),
        *([4] if bits == 5 else []),
        32 if bits == 8 else 16,
    ]

    def unpack(rows: Bytes) -> Unpacked:
        fields = _fields(rows, sizes)
        scale = _halves(fields[0])
        bias = _halves(fields[1]) if zero is None else -zero * scale
        levels = fields[-1]
        # Signed: 128 more. Else all lower halves of the bytes come first, then the upper ones.
        levels = levels ^ 128 if bits == 8 else np.concatenate([levels & 15, levels >> 4], axis=1)
        if bits == 5:
            levels = levels | np.unpackbits(fields[-2], axis=1, bitorder="little") << 4
        return levels, scale, bias

    return unpack


def _blocks_of_256(bits: int) -> Callable[[Bytes], Unpacked]:
    """Q4_K, Q5_K: eight groups with numbers of six bits for scale and offset."""
    sizes = [2, 2, 12, *([32] if bits == 5 else []), 128]

    def unpack(rows: Bytes) -> Unpacked:
        fields = _fields(rows, sizes)
        scales, minima = (numbers.astype(np.float32) for numbers in Q4_K.get_scale_min(fields[2]))
        # 32 bytes hold two groups of 32 columns, one in their lower halves.
        pairs = fields[-1].reshape(-1, 4, 32)
        levels = np.stack([pairs & 15, pairs >> 4], axis=2).reshape(-1, 8, 32)
        if bits == 5:
            # Bit g of byte i belongs to column i of group g.
            fifth = np.unpackbits(fields[3][:, None], axis=1, bitorder="little")
            levels = levels | fifth.reshape(-1, 8, 32) << 4
        return levels, _halves(fields[0]) * scales, -_halves(fields[1]) * minima

    return unpack


def _fields(rows: Bytes, sizes: list[int]) -> list[Bytes]:
    """The fields of all blocks, [blocks, size] each."""
    blocks = np.ascontiguousarray(rows).reshape(-1, sum(sizes))
    return np.split(blocks, np.cumsum(sizes)[:-1], axis=1)


def _halves(field: Bytes) -> Floats:
    """float16 as float32: [blocks, 1]."""
    return np.ascontiguousarray(field).view(np.float16).astype(np.float32)


PACKED: dict[Type, tuple[int, Callable[[Bytes], Unpacked]]] = {
    Type.Q4_0: (4, _blocks_of_32(4, zero=8)),
    Type.Q4_1: (4, _blocks_of_32(4, zero=None)),
    Type.Q5_0: (5, _blocks_of_32(5, zero=16)),
    Type.Q5_1: (5, _blocks_of_32(5, zero=None)),
    Type.Q8_0: (8, _blocks_of_32(8, zero=128)),
    Type.Q4_K: (4, _blocks_of_256(4)),
    Type.Q5_K: (5, _blocks_of_256(5)),
}
"""Bits of a level in MLX, and how blocks come apart."""
