"""Layers that keep a frozen matrix in half precision, as an F16 or BF16 file has it, on a CPU.

They compute in float32 all the same: what the file holds becomes it exactly, piece by piece within a product.
Half of the memory is filled, which is most of what loading takes.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from mlx_finetuning.mlx_trainer.kernels import backend


class HalfLinear(nn.Linear):  # type: ignore[misc]
    """A linear layer. weight: [outputs, inputs] float16 or bfloat16."""

    def __call__(self, x: mx.array) -> mx.array:
        y = _product(self.weight, x)
        return y + self["bias"] if "bias" in self else y


class HalfEmbedding(nn.Embedding):  # type: ignore[misc]
    """An embedding. weight: [tokens, width] float16 or bfloat16."""

    def __call__(self, x: mx.array) -> mx.array:
        rows: mx.array = self.weight[x]
        return rows.astype(mx.float32)

    def as_linear(self, x: mx.array) -> mx.array:
        """As the output head of a model whose head is its embedding."""
        return _product(self.weight, x)


LAYERS = (HalfLinear, HalfEmbedding)
_STAND_FOR = {nn.Linear: HalfLinear, nn.Embedding: HalfEmbedding}


def put_into(model: nn.Module, weights: MutableMapping[str, mx.array]) -> None:
    """Replace the model's linear layers and embeddings whose `weights` are of half precision, and let all
    other `weights` be float32; biases stay as they are. On a GPU nothing changes."""
    if mx.default_device() != mx.cpu:
        return
    halves = {name for name, array in weights.items() if array.dtype in backend.HALVES}
    replaced = []
    for path, module in model.named_modules():
        name, made = f"{path}.weight", _STAND_FOR.get(type(module))
        if made is None or name not in halves:
            continue
        halves.remove(name)
        replaced.append((path, in_place_of(module, made, weights[name])))
    model.update_modules(tree_unflatten(replaced))
    for name in halves:
        weights[name] = weights[name].astype(mx.float32)


def in_place_of(layer: Any, kind: Any, weight: mx.array) -> nn.Module:
    """A frozen layer of a kind, with another weight than `layer` has and with its bias."""
    # Not by its own initializer, which draws the random numbers that the factors begin with.
    made: nn.Module = kind.__new__(kind)
    nn.Module.__init__(made)
    made.weight = weight
    if "bias" in layer:
        made.bias = layer.bias
    made.freeze()
    return made


def _product(weight: mx.array, x: mx.array) -> mx.array:
    """x: [..., inputs] → [..., outputs]"""
    rows = x.reshape(-1, x.shape[-1])
    return backend.chosen().linear(rows, weight, None, 1.0).reshape(*x.shape[:-1], -1)
