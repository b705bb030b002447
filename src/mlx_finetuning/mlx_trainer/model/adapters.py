"""LoRA and DoRA adapters on mlx-lm's own layers, or whole layers; saved as mlx-lm saves them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import BinaryIO, cast

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
from mlx_lm.tuner.utils import linear_to_lora_layers

from mlx_finetuning import files
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import DoraOfExperts, FullNeedsPlainWeights, TargetsNotFound
from mlx_finetuning.files import JsonObject
from mlx_finetuning.mlx_trainer.model import dora, trainable, unpacking
from mlx_finetuning.mlx_trainer.model.lora import make_cheap
from mlx_finetuning.tokenization.chat import THINKS, ChatTokenizer

_EXPERTS = (SwitchLinear, QuantizedSwitchLinear)
_LINEAR = (nn.Linear, nn.QuantizedLinear, *_EXPERTS)


def attach(model: nn.Module, config: TrainConfig) -> JsonObject:
    """Freeze `model` but for what `config` trains, and return its `adapter_config.json`.

    The factors' product is scaled by alpha / rank, or alpha / sqrt(rank) for rsLoRA. Raises
    TargetsNotFound, FullNeedsPlainWeights, DoraOfExperts.
    """
    layers: list[nn.Module] = list(model.layers)
    count = len(layers) if config.num_layers < 0 else min(config.num_layers, len(layers))
    trainable.forget(model)
    model.freeze()
    if config.method == "full":
        trained = layers[len(layers) - count :]
        if any(hasattr(part, "bits") for layer in trained for _, part in layer.named_modules()):
            raise FullNeedsPlainWeights()
        for layer in trained:
            unpacking.widen(layer)
            layer.unfreeze()
        return {"fine_tune_type": "full", "num_layers": count}
    unpacking.unpack_where_it_fits(model)
    keys = target_keys(layers, config.targets)
    if config.method == "dora" and (stacked := sorted(_modules(layers, _EXPERTS) & set(keys))):
        raise DoraOfExperts(layer=stacked[0])  # mlx-lm has none for stacked weights
    parameters = {
        "rank": config.rank,
        "scale": config.alpha / (math.sqrt(config.rank) if config.rslora else config.rank),
        "dropout": config.dropout,
        "keys": keys,
    }
    if count:
        if config.method == "dora":
            dora.unpack(model, keys)
        linear_to_lora_layers(model, count, parameters, use_dora=config.method == "dora")
        make_cheap(model)
    kind = {"fine_tune_type": config.method, "num_layers": count}
    return {**kind, "lora_parameters": parameters}


def target_keys(layers: list[nn.Module], targets: tuple[str, ...]) -> list[str]:
    """Names, within a block, of the linear layers that `targets` asks for, sorted.

    Routers, which choose among experts, are trained only if they are named.
    """
    linear = _modules(layers, _LINEAR)
    if targets == ("all-linear",):
        # Not routers, linear layers beside a stack of experts: a few rows would unbalance what was
        # balanced over trillions of tokens.
        stacks = {name.rpartition(".")[0] for name in _modules(layers, _EXPERTS)}
        owners = {stack.rpartition(".")[0] for stack in stacks}
        plain = _modules(layers, (nn.Linear, nn.QuantizedLinear))
        chosen = linear - {name for name in plain if name.rpartition(".")[0] in owners}
    elif targets == ("attention",):
        chosen = {name for name in linear if "attn" in name or "attention" in name}
    else:
        chosen = {name for name in linear if name in targets or name.split(".")[-1] in targets}
    if not chosen:
        raise TargetsNotFound(targets=",".join(targets), available=sorted(linear))
    return sorted(chosen)


def _modules(layers: list[nn.Module], kinds: tuple[type, ...]) -> set[str]:
    return {
        name
        for layer in layers
        for name, module in layer.named_modules()
        if isinstance(module, kinds)
    }


def save(model: nn.Module, adapter_config: JsonObject, folder: Path, chat: ChatTokenizer) -> None:
    """Write `adapters.safetensors`, `adapter_config.json` and the chat template, each whole or not at
    all.

    The folder is what `mlx_lm generate --adapter-path` reads. Raises DiskFull.
    """
    write_arrays(folder / "adapters.safetensors", trainable.of(model).arrays())
    chat.save(folder)
    text = json.dumps({**adapter_config, THINKS: chat.thinks}, ensure_ascii=False, indent=2) + "\n"
    files.write_text(folder / "adapter_config.json", text)


def write_arrays(path: Path, arrays: dict[str, mx.array]) -> None:
    """A safetensors file, replaced atomically. Raises DiskFull."""
    with files.replacing(path) as stream:
        # Through Python's own file, so that a full disk is an error and not silence.
        mx.save_safetensors(cast(BinaryIO, stream), arrays)
