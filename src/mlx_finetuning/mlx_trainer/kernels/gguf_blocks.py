"""ggml's blocks as arrays of MLX's packed form, or of `six_bit`.

`scale * level + bias` in float32 is then what llama.cpp computes, to the last bit, because every
product there fits into float32's 24 bits. The blocks' layouts are those of llama.cpp's `ggml-common.h`.
This is the reference that `native/gguf_blocks.h` is tested against, and what runs without it. Levels are
moved several at a time, in NumPy's words of 16 to 64 bits: a byte for each would take twice as long.
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

    rows: [rows, bytes], of a type in `PACKED`. The levels are [rows, columns * bits / 32] uint32, a row's
    first column in its lowest bits.
    """
    block, block_bytes = GGML_QUANT_SIZES[kind]
    if isinstance(which, slice):
        rows, which = rows[which], EVERYTHING
    count = len(rows) if isinstance(which, slice) else len(which)
    step = max(1, BLOCK_VALUES // (rows.shape[1] // block_bytes * block))
    arrays: Arrays = {}
    for start in range(0, count, step):
        part = slice(start, start + step)
        chosen = rows[part if isinstance(which, slice) else which[part]]
        blocks = np.ascontiguousarray(chosen).reshape(-1, block_bytes)
        for name, of_blocks in PACKED[kind](blocks).items():
            of_rows = of_blocks.reshape(len(chosen), -1)
            if name not in arrays:
                arrays[name] = np.empty((count, of_rows.shape[1]), of_rows.dtype)
            arrays[name][part] = of_rows
    arrays["weight"] = arrays["weight"].view(np.uint32)
    return arrays


def packed_bytes(kind: Type, values: int) -> int:
    """What `packed` makes of so many values."""
    block, size = GGML_QUANT_SIZES[kind]
    arrays = PACKED[kind](np.zeros((1, size), np.uint8))
    return values // block * sum(array.nbytes for array in arrays.values())


def parts(kind: Type) -> tuple[str, str, str]:
    """The names of the arrays that `packed` makes."""
    return ("weight", "scales", "block_scales" if kind == Type.Q6_K else "biases")


def _blocks_of_32(bits: int, zero: int | None) -> Callable[[Bytes], Arrays]:
    """Q4_0, Q4_1, Q5_0, Q5_1, Q8_0. zero: the level that stands for 0; None where the block says by
    an offset what level 0 stands for."""
    layout = np.dtype(
        [
            ("scale", "<f2"),
            *([("offset", "<f2")] if zero is None else []),
            *([("fifth", "u1", 4)] if bits == 5 else []),
            ("levels", "u1", 32 if bits == 8 else 16),
        ]
    )

    def unpack(blocks: Bytes) -> Arrays:
        fields = blocks.view(layout)[:, 0]
        scale, levels = fields["scale"].astype(np.float32), fields["levels"]
        if bits == 8:
            levels = levels ^ 128  # signed: 128 more
        elif bits == 4:
            levels = _lower_and_upper(levels)
        else:
            # All lower halves of the bytes come first, then the upper ones.
            levels = np.concatenate([levels & 15, levels >> 4], axis=1)
            fifth = np.unpackbits(fields["fifth"], axis=1, bitorder="little")
            levels = _close_together(levels | fifth << 4, bits)
        bias = fields["offset"].astype(np.float32) if zero is None else -zero * scale
        return {"weight": levels, "scales": scale, "biases": bias}

    return unpack


def _blocks_of_256(bits: int) -> Callable[[Bytes], Arrays]:
    """Q4_K, Q5_K: eight groups with numbers of six bits for scale and offset."""
    layout = np.dtype(
        [
            *(("scale", "<f2"), ("offset", "<f2"), ("numbers", "u1", 12)),
            *([("fifth", "u1", 32)] if bits == 5 else []),
            ("levels", "u1", 128),
        ]
    )

    def unpack(blocks: Bytes) -> Arrays:
        fields = blocks.view(layout)[:, 0]
        scales, minima = (
            numbers.astype(np.float32) for numbers in Q4_K.get_scale_min(fields["numbers"])
        )
        # 32 bytes hold two groups of 32 columns, one in their lower halves.
        pairs = fields["levels"].reshape(-1, 4, 32)
        if bits == 4:
            levels = _lower_and_upper(pairs)
        else:
            levels = np.stack([pairs & 15, pairs >> 4], axis=2).reshape(-1, 8, 32)
            # Bit g of byte i belongs to column i of group g.
            fifth = np.unpackbits(fields["fifth"][:, None], axis=1, bitorder="little")
            levels = _close_together(levels | fifth.reshape(-1, 8, 32) << 4, bits)
        return {
            "weight": levels,
            "scales": fields["scale"].astype(np.float32)[:, None] * scales,
            "biases": -fields["offset"].astype(np.float32)[:, None] * minima,
        }

    return unpack


_Q6_K = np.dtype(
    [("lower", "u1", 128), ("upper", "u1", 64), ("scales", "i1", 16), ("scale", "<f2")]
)


def _q6_k(blocks: Bytes) -> Arrays:
    """The lower four bits of the levels, the upper two, and a signed byte for every 16 columns."""
    fields = blocks.view(_Q6_K)[:, 0]
    levels = np.empty((len(blocks), 2, 4, 32), np.uint8)
    # 64 bytes hold 128 columns: in their lower halves the first 64.
    lower = fields["lower"].reshape(-1, 2, 2, 32)
    levels[:, :, :2], levels[:, :, 2:] = lower & 15, lower >> 4
    # 32 bytes hold two bits each of four times 32 columns.
    upper = fields["upper"].reshape(-1, 2, 32)
    for group in range(4):
        levels[:, :, group] |= (upper >> 2 * group & 3) << 4
    return {
        "weight": _close_together(levels, 6),
        "scales": fields["scales"],
        "block_scales": fields["scale"],
    }


def _lower_and_upper(pairs: Bytes) -> Bytes:
    """[..., bytes] with two levels of four bits each → the lower ones of all bytes close together, then
    the upper ones: [..., 2, bytes / 2]."""
    words = np.ascontiguousarray(pairs).view(np.uint32)
    close = np.empty((*pairs.shape[:-1], 2, pairs.shape[-1] // 4), np.uint16)
    for half in (0, 1):
        levels = words >> 4 * half & 0x0F0F0F0F
        levels |= levels >> 4
        levels &= 0x00FF00FF
        levels |= levels >> 8
        close[..., half, :] = levels  # the lower 16 bits
    return close.view(np.uint8)


def _close_together(levels: Bytes, bits: int) -> NDArray[np.uint32]:
    """Levels of 5 or 6 bits, a byte each, the last axis a multiple of 32 → `bits` bits each."""
    units, width = np.ascontiguousarray(levels), 8
    # Neighbours become one, until their bits fill whole bytes: 40 of uint64, or 24 of uint32.
    for kind in (np.uint16, np.uint32, np.uint64):
        units = units.view(kind)
        lower = units & (1 << bits) - 1
        units >>= width - bits
        units &= (1 << bits) - 1 << bits
        units |= lower
        bits, width = 2 * bits, 2 * width
        if bits % 8 == 0:
            break
    units = units.reshape(-1, 4)
    words = np.zeros((len(units), bits // 8), np.uint32)
    for word in range(bits // 8):
        for unit in range(4):
            shift = bits * unit - 32 * word
            if -bits < shift < 32:
                moved = units[:, unit] << shift if shift > 0 else units[:, unit] >> -shift
                words[:, word] |= moved  # the lower 32 bits
    return words


PACKED: dict[Type, Callable[[Bytes], Arrays]] = {
    Type.Q4_0: _blocks_of_32(4, zero=8),
    Type.Q4_1: _blocks_of_32(4, zero=None),
    Type.Q5_0: _blocks_of_32(5, zero=16),
    Type.Q5_1: _blocks_of_32(5, zero=None),
    Type.Q8_0: _blocks_of_32(8, zero=128),
    Type.Q4_K: _blocks_of_256(4),
    Type.Q5_K: _blocks_of_256(5),
    Type.Q6_K: _q6_k,
}
"""How blocks, [blocks, bytes], come apart."""
