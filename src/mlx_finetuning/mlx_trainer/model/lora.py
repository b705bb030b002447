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
from mlx_lm.tuner.lora import LoRALinear, LoRASwitchLinear

from mlx_finetuning.mlx_trainer.kernels import backend
from mlx_finetuning.mlx_trainer.model.half_precision import HalfLinear


class CheapLoRALinear(LoRALinear):  # type: ignore[misc]
    """A linear layer with factors, as mlx-lm's `LoRALinear`."""

    def __call__(self, x: mx.array) -> mx.array:
        # One shape of two dimensions throughout: products of three are flattened one by one, and
        # so are their gradients.
        rows = x.reshape(-1, x.shape[-1])
        if self._is_one_kernel():
            factors = self.lora_a, self.lora_b
            whole = backend.chosen().linear(rows, self.linear.weight, factors, self.scale)
            return whole.reshape(*x.shape[:-1], -1)
        factor = self.lora_b if self.scale == 1.0 else self.scale * self.lora_b
        down, up = self.lora_a.astype(x.dtype), factor.astype(x.dtype)
        if backend.on_card() is not None and not self._drops():
            added = with_factors(self.linear)(rows, down, up)
        else:
            added = mx.addmm(self.linear(rows), self.dropout(rows) @ down, up)
        return added.reshape(*x.shape[:-1], -1)  # type: ignore[no-any-return]

    def _is_one_kernel(self) -> bool:
        """Whether nothing but the weight and the factors comes into it, on the CPU."""
        is_plain = type(self.linear) in (nn.Linear, HalfLinear) and "bias" not in self.linear
        return is_plain and not self._drops() and mx.default_device() == mx.cpu

    def _drops(self) -> bool:
        return bool(self.training and self.dropout._p_1 < 1)


def with_factors(linear: nn.Module) -> Any:
    """A frozen layer with factors, as a function of rows [rows, inputs] and factors [inputs, rank] and
    [rank, outputs] to outputs.

    Its gradient by the rows adds the factors' part within their product: on a GPU additions take time.
    """

    @mx.custom_function
    def product(x: mx.array, down: mx.array, up: mx.array) -> mx.array:
        return mx.addmm(linear(x), x @ down, up)

    @product.vjp
    def backward(
        primals: tuple[mx.array, ...], d_out: mx.array, output: mx.array
    ) -> tuple[mx.array, ...]:
        x, down, up = primals
        # Not an output: who needs one of those has all of them computed, where a part is computed again
        # the product with the weights too. Compiling makes it one with the forward pass's.
        low = x @ down
        d_low = d_out @ up.T
        d_x = mx.addmm(input_gradient(linear, x, d_out), d_low, down.T)
        return d_x, x.T @ d_low, low.T @ d_out

    return product


def input_gradient(linear: nn.Module, x: mx.array, d_out: mx.array) -> mx.array:
    """[rows, inputs]: of a frozen layer's input x from d_out [rows, outputs], the gradient of its output."""
    # In `mx.vjp` a plain layer's weight is turned twice, each time by an operation of its own.
    is_plain = type(linear) is nn.Linear
    gradient: mx.array = d_out @ linear.weight if is_plain else mx.vjp(linear, [x], [d_out])[1][0]
    return gradient


class CheapLoRASwitchLinear(LoRASwitchLinear):  # type: ignore[misc]
    """Of experts: each row meets the factors of its own."""

    def __call__(self, x: mx.array, indices: mx.array, sorted_indices: bool = False) -> mx.array:
        def product(rows: mx.array, factors: mx.array) -> mx.array:
            turned = factors.astype(x.dtype).swapaxes(-1, -2)
            return mx.gather_mm(rows, turned, rhs_indices=indices, sorted_indices=sorted_indices)

        factor = self.lora_b if self.scale == 1.0 else self.scale * self.lora_b
        added = product(product(self.dropout(x), self.lora_a), factor)
        whole: mx.array = self.linear(x, indices, sorted_indices=sorted_indices) + added
        return whole


def make_cheap(model: nn.Module) -> None:
    """Let the model's LoRA layers multiply cheaply; their arrays stay as they are."""
    cheap = {LoRALinear: CheapLoRALinear, LoRASwitchLinear: CheapLoRASwitchLinear}
    for _, module in model.named_modules():
        if type(module) in cheap:
            cast(Any, module).__class__ = cheap[type(module)]


def common_scale(model: nn.Module) -> float | None:
    """The scale of all LoRA layers; None if they differ."""
    scales = {module.scale for module in _layers(model)}
    return float(scales.pop()) if len(scales) == 1 else None


def dtype(model: nn.Module) -> mx.Dtype:
    """Of what goes through the model's LoRA layers."""
    layer = _layers(model)[0].linear
    found: mx.Dtype = (layer.scales if "scales" in layer else layer.weight).dtype
    return found


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
    kinds = (LoRALinear, LoRASwitchLinear)
    return [module for _, module in model.named_modules() if isinstance(module, kinds)]


def are_factors(trained: Any) -> bool:
    """Whether a tree of trained arrays holds LoRA's factors and nothing else."""
    return all(name.endswith((".lora_a", ".lora_b")) for name, _ in tree_flatten(trained))
