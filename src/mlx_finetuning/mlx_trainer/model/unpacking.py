"""Packed weights as floats, where the memory has room for them, and those of half precision as float32.

On the CPU a product with packed weights unpacks them anew and takes six times as long, so they are unpacked
once for a training. The values stay those of the packed form. A GPU multiplies them as they are.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from mlx_finetuning.mlx_trainer.model import half_precision
from mlx_finetuning.mlx_trainer.model.six_bit import SixBitEmbedding, SixBitLinear
from mlx_finetuning.utils.memory_monitor import read_memory

_PACKED = (nn.QuantizedLinear, nn.QuantizedEmbedding)


def fits(values: int) -> bool:
    """Whether that many weights may be float32: where they fill half of the memory at most. Every
    process of a run decides alike."""
    return 4 * values <= read_memory().total // 2


def is_packed(model: nn.Module) -> bool:
    """Whether any layer is."""
    return any(isinstance(module, _PACKED) for _, module in model.named_modules())


def unpack_where_it_fits(model: nn.Module) -> None:
    """Replace the model's packed layers by plain ones, on a CPU with the memory for it."""
    layers = [layer for _, layer in model.named_modules() if isinstance(layer, _PACKED)]
    # Of a packed one every 32 bits are counted as one value.
    values = sum(array.size for _, array in tree_flatten(model.parameters()))
    values += sum(layer.weight.size * (32 // layer.bits - 1) for layer in layers)
    if mx.default_device() == mx.cpu and fits(values):
        unpack(model)


def unpack(model: nn.Module) -> None:
    """Replace the model's packed layers by plain ones."""
    _make_plain(model, _PACKED)


def widen(model: nn.Module) -> None:
    """Replace the model's layers of half precision by float32 ones: for what takes whole weights, or trains
    them."""
    _make_plain(model, half_precision.LAYERS)


def _make_plain(model: nn.Module, kinds: tuple[type, ...]) -> None:
    named = model.named_modules()
    layers = [(name, plain(layer)) for name, layer in named if isinstance(layer, kinds)]
    model.update_modules(tree_unflatten(layers))


def plain(layer: Any) -> nn.Module:
    """The same values, as floats of the scales' type, or float32: a linear layer's, or an embedding's."""
    if isinstance(layer, (SixBitLinear, SixBitEmbedding)):
        weight = layer.values()
    elif isinstance(layer, half_precision.LAYERS):
        weight = layer.weight.astype(mx.float32)
    else:
        weight = mx.dequantize(
            layer.weight,
            layer.scales,
            layer.get("biases"),
            group_size=layer.group_size,
            bits=layer.bits,
            mode=layer.mode,
        )
    kind = nn.Linear if isinstance(layer, (nn.QuantizedLinear, nn.Linear)) else nn.Embedding
    return half_precision.in_place_of(layer, kind, weight)
