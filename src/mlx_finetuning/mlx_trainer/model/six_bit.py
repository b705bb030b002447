"""Layers that keep ggml's Q6_K as it is: six-bit levels, and a scale for every 16 columns.

MLX's packed products share a scale among 32 columns or more, so a product is made of two: one of the
first and one of the last 16 columns of each 32, with the other half of the input at zero. All values are
exact, as `gguf_blocks` says of the others, and a weight takes 6.56 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

BITS, GROUP, HALF, BLOCK = 6, 32, 16, 256
ZERO_LEVEL = 32
"""The level that stands for zero."""


class _SixBit(nn.Module):  # type: ignore[misc]
    """What both layers have.

    weight: levels as MLX packs them, [rows, columns * 6 / 32] uint32; scales: [rows, columns / 16] int8;
    block_scales: [rows, columns / 256] float16, by which the scales are multiplied.
    """

    group_size, bits, mode = GROUP, BITS, "affine"

    def __init__(self, weight: mx.array, scales: mx.array, block_scales: mx.array) -> None:
        nn.Module.__init__(self)
        self.weight, self.scales, self.block_scales = weight, scales, block_scales

    def values(self, rows: Any = slice(None)) -> mx.array:
        """The chosen rows as float32, [..., columns]."""
        levels = mx.dequantize(
            self.weight[rows], *self._constants(rows), group_size=GROUP, bits=BITS
        )
        by_scale = levels.reshape(*levels.shape[:-1], -1, HALF)
        return (by_scale * self._scales(rows)[..., None]).reshape(levels.shape)

    def product(self, x: mx.array) -> mx.array:
        """x: [..., columns] → [..., rows]"""
        scales = self._scales().reshape(len(self.weight), -1, 2)
        # [columns]: whether a column is one of the first 16 of its 32.
        is_first = mx.arange(x.shape[-1]) // HALF % 2 == 0
        parts = []
        for half, chosen in enumerate((is_first, ~is_first)):
            scale = scales[..., half]
            parts.append(
                mx.quantized_matmul(
                    x * chosen.astype(x.dtype),
                    self.weight,
                    scales=scale,
                    biases=-ZERO_LEVEL * scale,
                    group_size=GROUP,
                    bits=BITS,
                )
            )
        return parts[0] + parts[1]

    def _scales(self, rows: Any = slice(None)) -> mx.array:
        """float32, [..., columns / 16]"""
        blocks, scales = self.block_scales[rows], self.scales[rows]
        by_block = scales.reshape(*blocks.shape, -1) * blocks.astype(mx.float32)[..., None]
        return by_block.reshape(scales.shape)

    def _constants(self, rows: Any) -> tuple[mx.array, mx.array]:
        """With which MLX gives levels less `ZERO_LEVEL`."""
        scales = self.scales[rows]
        shape = (*scales.shape[:-1], scales.shape[-1] * HALF // GROUP)
        return mx.ones(shape), mx.full(shape, -float(ZERO_LEVEL))


class SixBitLinear(_SixBit, nn.QuantizedLinear):  # type: ignore[misc]
    """Stands for a linear layer, and counts as a quantized one."""

    def __call__(self, x: mx.array) -> mx.array:
        y = self.product(x)
        return y + self["bias"] if "bias" in self else y


class SixBitEmbedding(_SixBit, nn.QuantizedEmbedding):  # type: ignore[misc]
    """Stands for an embedding, and counts as a quantized one."""

    def __call__(self, x: mx.array) -> mx.array:
        return self.values(x)

    def as_linear(self, x: mx.array) -> mx.array:
        """As the output head of a model whose head is its embedding."""
        return self.product(x)


def put_into(model: nn.Module, weights: Mapping[str, mx.array]) -> None:
    """Replace the model's layers whose `weights` are of six bits; biases stay as they are."""
    kinds = ((nn.Linear, SixBitLinear), (nn.Embedding, SixBitEmbedding))
    replaced = []
    for path, module in model.named_modules():
        if f"{path}.block_scales" not in weights:
            continue
        made = next(made for kind, made in kinds if isinstance(module, kind))
        arrays = (weights[f"{path}.{part}"] for part in ("weight", "scales", "block_scales"))
        layer = made(*arrays)
        if "bias" in module:
            layer.bias = module.bias
        layer.freeze()
        replaced.append((path, layer))
    model.update_modules(tree_unflatten(replaced))
