"""A loaded model with its adapter put aside for a while: base and tuned from one set of weights.

LoRA and DoRA layers hold the layer they change; it takes their place. Weights that were trained
themselves (`full`) cannot be put aside.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import mlx.nn as nn
from mlx.utils import tree_unflatten

from mlx_finetuning.mlx_trainer.model import trainable
from mlx_finetuning.mlx_trainer.model.load import LoadedModel


def can_toggle(loaded: LoadedModel) -> bool:
    """Whether there is an adapter that can be put aside."""
    return bool(_adapted(loaded.model))


@contextlib.contextmanager
def without_adapter(loaded: LoadedModel) -> Iterator[None]:
    """Within the block the model is its base."""
    adapted = _adapted(loaded.model)
    _put(loaded.model, {name: _inner(layer) for name, layer in adapted.items()})
    try:
        yield
    finally:
        _put(loaded.model, adapted)


def strengthen(loaded: LoadedModel, strength: float) -> bool:
    """Multiply what the adapter adds; False, and nothing done, where it does more than add (DoRA, `full`)."""
    adapted = list(_adapted(loaded.model).values())
    if not adapted or any("m" in layer for layer in adapted):
        return False
    for layer in adapted:
        layer.scale *= strength
    return True


def detach(loaded: LoadedModel) -> None:
    """Take the adapter off for good: the model is its base again, and can be given another one."""
    adapted = _adapted(loaded.model)
    _put(loaded.model, {name: _inner(layer) for name, layer in adapted.items()})
    trainable.forget(loaded.model)


def fuse(loaded: LoadedModel) -> None:
    """Merge the adapter into the weights, for good, as mlx-lm does."""
    adapted = _adapted(loaded.model)
    _put(loaded.model, {name: layer.fuse(dequantize=True) for name, layer in adapted.items()})


def _adapted(model: nn.Module) -> dict[str, nn.Module]:
    return {name: layer for name, layer in model.named_modules() if "lora_a" in layer}


def _inner(layer: nn.Module) -> nn.Module:
    inner: nn.Module = layer["linear" if "linear" in layer else "embedding"]
    return inner


def _put(model: nn.Module, layers: dict[str, nn.Module]) -> None:
    model.update_modules(tree_unflatten(list(layers.items())))
