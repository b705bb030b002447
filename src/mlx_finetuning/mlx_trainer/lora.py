"""LoRA layers with cheap products: the same arrays and names as mlx-lm's `LoRALinear`.

mlx-lm multiplies in the factors' float32 whatever the activations' type is, and takes three
passes over the output. Here the factors are cast to the activations' type for the product (the
float32 masters stay in the optimizer), and both directions are fused multiply-adds.
"""

from __future__ import annotations

from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.tuner.lora import LoRALinear


class CheapLoRALinear(LoRALinear):  # type: ignore[misc]
    def __call__(self, x: mx.array) -> mx.array:
        dropped = self.dropout(x)
        low = dropped @ self.lora_a.astype(x.dtype)
        base = self.linear(x)
        flat = base.reshape(-1, base.shape[-1])
        factor = self.lora_b.astype(x.dtype)
        added: mx.array = mx.addmm(flat, low.reshape(-1, low.shape[-1]), factor, alpha=self.scale)
        return added.reshape(base.shape)


def make_cheap(model: nn.Module) -> None:
    """Let the model's LoRA layers multiply cheaply; their arrays stay as they are."""
    for _, module in model.named_modules():
        if type(module) is LoRALinear:
            cast(Any, module).__class__ = CheapLoRALinear


def are_factors(trained: Any) -> bool:
    """Whether a tree of trained arrays holds LoRA's factors and nothing else."""
    return all(name.endswith((".lora_a", ".lora_b")) for name, _ in tree_flatten(trained))
