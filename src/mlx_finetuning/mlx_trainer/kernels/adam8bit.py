"""Adam whose two moments take a byte each: a quarter of the memory of float32.

Each block of 256 values has its own scale. What is stored is the root of a value's share of the
block's largest, so that small values keep their precision: of the first moment with its sign, of
the second moment the root of a root. Follows the idea of Dettmers et al. (2022), not their code
book. The state is plain arrays, so a checkpoint holds it to the last bit.
"""

from __future__ import annotations

from typing import Any, cast

import mlx.core as mx
import mlx.optimizers as optim

BLOCK = 256


class Adam8bit(optim.Adam):  # type: ignore[misc]
    """`optim.Adam` but for how its moments are kept."""

    def init_single(self, parameter: mx.array, state: dict[str, Any]) -> None:
        blocks = -(-parameter.size // BLOCK)
        for name, kind in (("m", mx.int8), ("v", mx.uint8)):
            state[name] = mx.zeros((blocks, BLOCK), kind)
            state[f"{name}_scale"] = mx.zeros((blocks, 1))

    def apply_single(
        self, gradient: mx.array, parameter: mx.array, state: dict[str, Any]
    ) -> mx.array:
        moments = {
            "m": _unpacked(state["m"], state["m_scale"], 127, gradient),
            "v": mx.square(_unpacked(state["v"], state["v_scale"], 255, gradient)),
        }
        changed = cast(mx.array, super().apply_single(gradient, parameter, moments))
        state["m"], state["m_scale"] = _packed(moments["m"], 127, mx.int8)
        state["v"], state["v_scale"] = _packed(mx.sqrt(moments["v"]), 255, mx.uint8)
        return changed


def _packed(values: mx.array, highest: int, kind: mx.Dtype) -> tuple[mx.array, mx.array]:
    """[blocks, 256] of `kind` and float32 scales [blocks, 1]."""
    blocks = mx.pad(values.reshape(-1).astype(mx.float32), (0, -values.size % BLOCK))
    blocks = blocks.reshape(-1, BLOCK)
    scale = mx.abs(blocks).max(axis=-1, keepdims=True)
    share = mx.abs(blocks) / mx.maximum(scale, 1e-38)
    return (mx.sign(blocks) * mx.round(mx.sqrt(share) * highest)).astype(kind), scale


def _unpacked(stored: mx.array, scale: mx.array, highest: int, like: mx.array) -> mx.array:
    root = stored.astype(mx.float32) / highest
    values = mx.sign(root) * mx.square(root) * scale
    return values.reshape(-1)[: like.size].reshape(like.shape)
