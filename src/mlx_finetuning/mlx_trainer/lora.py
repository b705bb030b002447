"""LoRA layers with cheap products: the same arrays and names as mlx-lm's `LoRALinear`.

mlx-lm multiplies in the factors' float32 whatever the activations' type is, and takes three
passes over the output. Here the factors are cast to the activations' type for the product (the
float32 masters stay in the optimizer), both directions are fused multiply-adds, and it is a factor
that is scaled, never activations or their gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.tuner.lora import LoRALinear


class CheapLoRALinear(LoRALinear):  # type: ignore[misc]
    def __call__(self, x: mx.array) -> mx.array:
        # One shape of two dimensions throughout: products of three are flattened one by one, and
        # so are their gradients.
        rows = x.reshape(-1, x.shape[-1])
        low = self.dropout(rows) @ self.lora_a.astype(x.dtype)
        factor = self.lora_b if self.scale == 1.0 else self.scale * self.lora_b
        added: mx.array = mx.addmm(self.linear(rows), low, factor.astype(x.dtype))
        return added.reshape(*x.shape[:-1], -1)


def make_cheap(model: nn.Module) -> None:
    """Let the model's LoRA layers multiply cheaply; their arrays stay as they are."""
    for _, module in model.named_modules():
        if type(module) is LoRALinear:
            cast(Any, module).__class__ = CheapLoRALinear


def common_scale(model: nn.Module) -> float | None:
    """The scale of all LoRA layers; None if they differ."""
    scales = {module.scale for module in _layers(model)}
    return float(scales.pop()) if len(scales) == 1 else None


@contextmanager
def unscaled(model: nn.Module) -> Iterator[None]:
    """Inside, LoRA layers take their factors as they are."""
    before = [(module, module.scale) for module in _layers(model)]
    for module, _ in before:
        module.scale = 1.0
    try:
        yield
    finally:
        for module, scale in before:
            module.scale = scale


def _layers(model: nn.Module) -> list[Any]:
    return [module for _, module in model.named_modules() if isinstance(module, LoRALinear)]


def are_factors(trained: Any) -> bool:
    """Whether a tree of trained arrays holds LoRA's factors and nothing else."""
    return all(name.endswith((".lora_a", ".lora_b")) for name, _ in tree_flatten(trained))
