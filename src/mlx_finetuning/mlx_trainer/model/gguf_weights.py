"""Weights out of a GGUF file, as exact as MLX can hold them.

What `gguf_blocks` can pack stays packed, exactly. All other types become floats: on the CPU float32,
which holds what llama.cpp computes; on a GPU bfloat16, which rounds to 8 bits (Q6_K, Q3_K, Q2_K, IQ …).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from gguf import GGMLQuantizationType as Type
from mlx_lm import utils

from mlx_finetuning.errors import BaseFileChanged
from mlx_finetuning.mlx_trainer.model import gguf_blocks
from mlx_finetuning.mlx_trainer.model.gguf_blocks import GROUP, PACKED
from mlx_finetuning.utils import gguf_reader
from mlx_finetuning.utils.gguf_base import GgufBase
from mlx_finetuning.utils.gguf_reader import EVERYTHING, StoredTensor
from mlx_finetuning.utils.memory_monitor import read_memory


def load(
    base: GgufBase, settings: Mapping[str, Any], classes: Callable[..., tuple[Any, Any]]
) -> nn.Module:
    """mlx-lm's model with the file's weights.

    settings: of `config.json`; classes: mlx-lm's classes of model and settings for it. Raises
    ValueError, BaseFileChanged, GgufUnreadable.
    """
    model_class, settings_class = classes(settings)
    model = model_class(settings_class.from_dict(settings))
    weights = arrays(base)
    if hasattr(model, "sanitize"):
        weights = model.sanitize(weights)

    def packing(path: str, module: nn.Module) -> Any:
        is_packed = hasattr(module, "to_quantized") and f"{path}.scales" in weights
        return utils.infer_quant_config(path, module, weights) if is_packed else False

    nn.quantize(model, class_predicate=packing)
    model.eval()
    model.load_weights(list(weights.items()))
    return model


def arrays(base: GgufBase, *, packed: bool | None = None) -> dict[str, mx.array]:
    """The weights by name; of packed ones three: `weight`, `scales`, `biases`.

    packed: whether what can be packed is, else as fits the device. Raises BaseFileChanged,
    GgufUnreadable.
    """
    tensors = _tensors(base)
    packed = _stays_packed(tensors) if packed is None else packed
    to_weight = [np.argsort(order) for order in base.orders]
    weights: dict[str, mx.array] = {}
    for name, stored in base.weights.items():
        tensor = tensors[name]
        order = None if stored.order < 0 else to_weight[stored.order]
        if packed and tensor.kind in PACKED:
            module = name.removesuffix(".weight")
            parts = gguf_blocks.packed(tensor.data, tensor.kind, order)
            for part, array in zip(("weight", "scales", "biases"), parts, strict=True):
                weights[f"{module}.{part}"] = mx.array(array)
        else:
            values = tensor.values(EVERYTHING if order is None else order)
            values = values - np.float32(stored.added) if stored.added else values
            kind = _float_type(tensor, packed)
            weights[name] = mx.array(values.reshape(tensor.shape)).astype(kind)
    return weights


def loaded_bytes(base: GgufBase) -> int:
    """What the weights take once loaded. Raises BaseFileChanged, GgufUnreadable."""
    tensors = _tensors(base)
    packed = _stays_packed(tensors)
    total = 0
    for tensor in tensors.values():
        values = len(tensor.data) * tensor.shape[-1]
        if packed and tensor.kind in PACKED:
            bits, _ = PACKED[tensor.kind]
            total += values * bits // 8 + 2 * 4 * values // GROUP
        else:
            total += values * _float_type(tensor, packed).size
    return total


def _tensors(base: GgufBase) -> dict[str, StoredTensor]:
    """The file's tensors, by the names of the weights that they are."""
    base.require_in_place()
    stored = gguf_reader.read(base.file).tensors
    try:
        return {name: stored[weight.tensor] for name, weight in base.weights.items()}
    except KeyError as error:
        reason = f"重み {error.args[0]} がありません。"
        raise BaseFileChanged(path=base.path, reason=reason) from error


def _stays_packed(tensors: Mapping[str, StoredTensor]) -> bool:
    """On the CPU packed products take six times as long as float32 ones, so only what would fill
    more than half of the memory stays packed there. Every process of a run decides alike."""
    if mx.default_device() != mx.cpu:
        return True
    values = sum(len(tensor.data) * tensor.shape[-1] for tensor in tensors.values())
    return 4 * values > read_memory().total // 2


def _float_type(tensor: StoredTensor, packed: bool) -> mx.Dtype:
    """Vectors go with the activations, which are float32 where scales are."""
    if mx.default_device() == mx.cpu or (packed and len(tensor.shape) == 1):
        return mx.float32
    return mx.float16 if tensor.kind == Type.F16 else mx.bfloat16
