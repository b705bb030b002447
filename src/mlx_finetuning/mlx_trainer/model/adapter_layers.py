"""The adapter of a loaded model made stronger, taken off or merged into the weights.

LoRA and DoRA layers hold the layer they change; it takes their place. Weights that were trained
themselves (`full`) stay as they are.
"""

from __future__ import annotations

import mlx.nn as nn
from mlx.utils import tree_unflatten

from mlx_finetuning.mlx_trainer.model import trainable, unpacking
from mlx_finetuning.mlx_trainer.model.load import LoadedModel


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
    """Merge the adapter into the weights, for good, as mlx-lm does; those become float32 on a CPU."""
    adapted = _adapted(loaded.model)
    for layer in adapted.values():
        unpacking.widen(layer)  # a sum would be rounded
    _put(loaded.model, {name: layer.fuse(dequantize=True) for name, layer in adapted.items()})


def _adapted(model: nn.Module) -> dict[str, nn.Module]:
    return {name: layer for name, layer in model.named_modules() if "lora_a" in layer}


def _inner(layer: nn.Module) -> nn.Module:
    inner: nn.Module = layer["linear" if "linear" in layer else "embedding"]
    return inner


def _put(model: nn.Module, layers: dict[str, nn.Module]) -> None:
    model.update_modules(tree_unflatten(list(layers.items())))
