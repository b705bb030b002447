"""How much training changed each block's weights, from the adapter's file."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import cast

import mlx.core as mx
from mlx.utils import tree_flatten

from mlx_finetuning.mlx_trainer.model.load import LoadedModel

_LAYER = re.compile(r"layers\.(\d+)\.")


def norms(base: LoadedModel, adapter: Path) -> dict[int, tuple[float, float | None]]:
    """By block: the Frobenius norm of the change, and its share of the norm of the changed weights.

    Of LoRA and DoRA the norm of the scaled product (DoRA's magnitudes apart), of full training that
    of the difference. The share is None where the base's weights are quantized.
    """
    arrays = mx.load(str(adapter / "adapters.safetensors"))
    assert isinstance(arrays, dict)
    weights = dict(tree_flatten(base.model.parameters()))
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    scale = float(config.get("lora_parameters", {}).get("scale", 1.0))
    squares: dict[int, tuple[float, float]] = {}
    for name in sorted(arrays):
        layer = _LAYER.search(name)
        change = _change(name, arrays, weights, scale)
        if layer is None or change is None:
            continue
        before = _squared(weights.get(name.replace(".lora_a", ".weight")))
        total = squares.get(int(layer[1]), (0.0, 0.0))
        squares[int(layer[1])] = (total[0] + change, total[1] + before)
    return {
        layer: (math.sqrt(change), math.sqrt(change / before) if before else None)
        for layer, (change, before) in sorted(squares.items())
    }


def _change(
    name: str, arrays: dict[str, mx.array], weights: dict[str, mx.array], scale: float
) -> float | None:
    """The squared norm of one weight's change; None for what belongs to another name."""
    if name.endswith(".lora_a"):
        low, high = arrays[name], arrays[name.removesuffix("lora_a") + "lora_b"]
        # |AB|² = tr(AᵀA · BBᵀ): no product of full size is needed.
        if low.ndim == 3:  # experts' factors lie the other way round
            low, high = low.swapaxes(-1, -2), high.swapaxes(-1, -2)
        inner = low.swapaxes(-1, -2) @ low
        outer = high @ high.swapaxes(-1, -2)
        return scale**2 * max(_number((inner * outer).sum()), 0.0)
    if name in weights:
        return _squared(arrays[name].astype(mx.float32) - weights[name].astype(mx.float32))
    return None


def _squared(values: mx.array | None) -> float:
    if values is None or not mx.issubdtype(values.dtype, mx.floating):
        return 0.0
    return _number(values.astype(mx.float32).square().sum())


def _number(value: mx.array) -> float:
    return float(cast(float, value.item()))
