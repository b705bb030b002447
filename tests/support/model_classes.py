"""Small models of several classes of mlx-lm, and their gradients as MLX computes them plainly."""

from __future__ import annotations

import importlib
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_map

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.mlx_trainer.batches.batches import Batch
from mlx_finetuning.mlx_trainer.batches.examples import Example
from mlx_finetuning.mlx_trainer.gradient import (
    backward,
)
from mlx_finetuning.mlx_trainer.model import adapters, flat_arrays

COMMON = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-6,
    "vocab_size": 300,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}


CLASSES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {},
    "gemma2": {
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 3.0,
        "query_pre_attn_scalar": 16,
    },
    "gemma3_text": {"sliding_window": 6, "sliding_window_pattern": 2, "query_pre_attn_scalar": 16},
    "phi3": {"tie_word_embeddings": False, "rope_scaling": None},
}


def model_of(kind: str, **changes: Any) -> nn.Module:
    """A small random model with an adapter that does something."""
    mx.random.seed(3)
    module = importlib.import_module(f"mlx_lm.models.{kind}")
    settings = {**COMMON, **CLASSES.get(kind, {}), "model_type": kind, **changes}
    model = module.Model(module.ModelArgs.from_dict(settings))
    model.set_dtype(mx.float32)
    model.update(tree_map(lambda value: value * 1.5, model.parameters()))
    adapters.attach(model, TrainConfig(rank=4, alpha=8.0, num_layers=2))
    drawn = tree_map(
        lambda value: value + 0.1 * mx.random.normal(value.shape), model.trainable_parameters()
    )
    model.update(drawn)
    mx.eval(model.parameters())
    return model


def examples() -> list[Example]:
    random = np.random.default_rng(1)
    return [
        Example(
            random.integers(0, 300, length).tolist(),
            [bool(place > length // 3) for place in range(length)],
            row=length,
        )
        for length in (9, 30, 17, 4)
    ]


def gradients(model: nn.Module, batch: Batch) -> tuple[float, dict[str, np.ndarray]]:
    value, found = backward.gradient_of(model)(batch)
    return cast(float, value.item()), {name: np.array(item) for name, item in tree_flatten(found)}


def named(model: nn.Module, found: dict[str, mx.array]) -> list[tuple[str, mx.array]]:
    """The gradients in a vector of all, by name."""
    layout = flat_arrays.Layout(model.trainable_parameters())
    return list(tree_flatten(layout.tree(found[flat_arrays.ALL])))


def plain(model: nn.Module, taken: list[Example]) -> tuple[float, dict[str, np.ndarray]]:
    """Each example alone, full logits, mlx's own cross-entropy and attention."""

    def objective() -> mx.array:
        total = mx.array(0.0)
        for example in taken:
            logits = model(mx.array([example.tokens[:-1]]))[0]
            losses = nn.losses.cross_entropy(logits, mx.array(example.tokens[1:]))
            total = total + (losses * mx.array(example.supervised[1:])).sum()
        return total

    value, found = nn.value_and_grad(model, objective)()
    return cast(float, value.item()), {name: np.array(item) for name, item in tree_flatten(found)}
