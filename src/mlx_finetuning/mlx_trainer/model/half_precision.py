"""Layers that keep a frozen matrix in half precision, as an F16 or BF16 file has it, on a CPU.

They compute in float32 all the same: what the file holds becomes it exactly, piece by piece within a product.
Half of the memory is filled, which is most of what loading takes.
"""

from __future__ import annotations

from collections.abc import MutableMapping

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
        return self.weight[x].astype(mx.float32)

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
        # Not by its own initializer, which draws random numbers.
        layer = made.__new__(made)
        nn.Module.__init__(layer)
        layer.weight = weights[name]
        if "bias" in module:
            layer.bias = module.bias
        layer.freeze()
        replaced.append((path, layer))
    model.update_modules(tree_unflatten(replaced))
    for name in halves:
        weights[name] = weights[name].astype(mx.float32)


def _product(weight: mx.array, x: mx.array) -> mx.array:
    """x: [..., inputs] → [..., outputs]"""
    rows = x.reshape(-1, x.shape[-1])
    return backend.chosen().linear(rows, weight, None, 1.0).reshape(*x.shape[:-1], -1)
