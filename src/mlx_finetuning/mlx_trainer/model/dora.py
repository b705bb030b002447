"""Prepares layers for mlx-lm's DoRA, which mistakes the size of packed ones of 3, 5 or 6 bits.

It takes whole weights in every pass anyway, so such layers are unpacked once; those of half precision become
float32, in which their norms are computed.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import mlx.nn as nn
from mlx.utils import tree_unflatten
from mlx_lm import utils

from mlx_finetuning.mlx_trainer.model.half_precision import HalfLinear
from mlx_finetuning.mlx_trainer.model.unpacking import plain

WORD = 32
"""Bits; mlx-lm expects levels to fill words evenly."""


def load_adapter(model: nn.Module, folder: Path) -> nn.Module:
    """The model with the adapter in `folder`, as mlx-lm loads it. Raises OSError, and what mlx-lm raises."""
    how = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if how.get("fine_tune_type") == "dora":
        unpack(model, how["lora_parameters"]["keys"])
    return utils.load_adapters(model, str(folder))


def unpack(model: nn.Module, keys: Collection[str]) -> None:
    """Replace the layers that mlx-lm would misread, or convert again and again; keys: their names within a
    block."""
    for block in model.layers:
        layers = [
            (name, plain(module))
            for name, module in block.named_modules()
            if name in keys and _is_misread(module)
        ]
        block.update_modules(tree_unflatten(layers))


def _is_misread(module: nn.Module) -> bool:
    if isinstance(module, nn.QuantizedLinear):
        return bool(WORD % module.bits)
    return isinstance(module, HalfLinear)
