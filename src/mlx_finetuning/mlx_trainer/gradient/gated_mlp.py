"""An MLP with LoRA's factors as one function: on a GPU what is written and read between its products costs
a tenth of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import mlx.core as mx
import mlx.nn as nn

from mlx_finetuning.mlx_trainer.kernels.cuda_kernels import GatedActivation
from mlx_finetuning.mlx_trainer.model.lora import input_gradient


def gated_mlp(
    first: nn.Module, last: nn.Module, activation: GatedActivation
) -> Callable[..., tuple[mx.array, ...]]:
    """Of rows x [rows, inputs], factors a [inputs, ranks] and b [ranks, 2 * inner] of the frozen layer
    `first`, gate and up side by side, and, if it has any, c [inner, rank] and d [rank, outputs] of `last`.

    Gives [rows, outputs], and what its gradients need: what `first` gives without its factors, and what
    a and c give. The activation is computed again: it would be half as much once more.
    """

    @mx.custom_function
    def mlp(x: mx.array, a: mx.array, b: mx.array, *last_factors: mx.array) -> tuple[mx.array, ...]:
        base, low = first(x), x @ a
        inner = activation.value(base, low, b)
        if not last_factors:
            return last(inner), base, low
        c, d = last_factors
        last_low = inner @ c
        return mx.addmm(last(inner), last_low, d), base, low, last_low

    @mlp.vjp
    def backward(
        primals: tuple[mx.array, ...],
        upstream: tuple[mx.array, ...],
        outputs: tuple[mx.array, ...],
    ) -> tuple[mx.array, ...]:
        (x, a, b, *last_factors), d_out = primals, upstream[0]
        _, base, low, *last_lows = outputs
        like_inner = mx.zeros((base.shape[0], base.shape[1] // 2), base.dtype)
        d_inner = input_gradient(last, like_inner, d_out)
        if last_factors:
            c, d = last_factors
            d_last_low = d_out @ d.T
            d_whole, inner = activation.gradients(base, low, b, d_inner, (d_last_low, c))
            of_last = [inner.T @ d_last_low, last_lows[0].T @ d_out]
        else:
            d_whole, _ = activation.gradients(base, low, b, d_inner, None)
            of_last = []
        d_low = d_whole @ b.T
        d_x = mx.addmm(input_gradient(first, x, d_whole), d_low, a.T)
        return d_x, x.T @ d_low, low.T @ d_whole, *of_last

    return cast(Callable[..., tuple[mx.array, ...]], mlp)
