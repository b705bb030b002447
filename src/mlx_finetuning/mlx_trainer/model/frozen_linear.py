"""Products with frozen weights by the CPU's backend, in layers that have nothing else to them.

Linear layers without factors and heads that are embeddings: mlx's own classes, whose functions are
replaced while a block of code runs. What is trained, quantized or has a bias computes as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import mlx.core as mx
import mlx.nn as nn

from mlx_finetuning.mlx_trainer.kernels import backend
from mlx_finetuning.mlx_trainer.model.patching import AS_LINEAR, CALL, replaced

_CALL, _AS_LINEAR = nn.Linear.__call__, nn.Embedding.as_linear  # which others stand for


@contextmanager
def on_cpu() -> Iterator[None]:
    """Inside, such layers multiply by the backend; on a GPU nothing changes."""
    if mx.default_device() != mx.cpu:
        yield
        return
    with replaced(nn.Linear, CALL, _linear), replaced(nn.Embedding, AS_LINEAR, _as_linear):
        yield


def _linear(layer: nn.Linear, x: mx.array) -> mx.array:
    return _product(layer, x, _CALL)


def _as_linear(layer: nn.Embedding, x: mx.array) -> mx.array:
    return _product(layer, x, _AS_LINEAR)


def _product(
    layer: nn.Module, x: mx.array, otherwise: Callable[[nn.Module, mx.array], mx.array]
) -> mx.array:
    is_frozen = "weight" in layer._no_grad
    if not is_frozen or "bias" in layer or layer.weight.dtype != x.dtype:
        return otherwise(layer, x)
    whole = backend.chosen().linear(x.reshape(-1, x.shape[-1]), layer.weight, None, 1.0)
    return whole.reshape(*x.shape[:-1], -1)
