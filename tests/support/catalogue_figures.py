"""What the figures of `config/models.yaml` follow from: the shapes in `catalogue_shapes.json`.

Parameters are counted on mlx-lm's own classes, whose arrays are never computed. Memory is that of
one gradient of one example: weights, the adapter with its gradient and optimizer, and what the
backward pass holds. Its constants were measured with `mlx_trainer.training.memory_fit` on blocks of these kinds.

    python -m support.catalogue_figures     # prints what the catalogue should say
"""

from __future__ import annotations

import functools
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.utils import _get_classes

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.mlx_trainer.gradient import loss
from mlx_finetuning.mlx_trainer.model import adapters
from mlx_finetuning.mlx_trainer.training import memory_fit

SHAPES: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "catalogue_shapes.json").read_text(encoding="utf-8")
)
"""By hub id: what config.json says of the shape; `stored` are parameters that are downloaded only
(a second copy of the embedding, or what sees and hears)."""
TOKENS = 512
"""Of the one example; a question with its answer is mostly shorter."""
PROGRAM = 0.5e9
HALF = 2
"""Bytes of bfloat16."""
OF_HIDDEN, OF_INTERMEDIATE = 20, 10
"""Values that a block's backward pass holds for each token, in widths of its two sizes."""
OF_SCORES = 12
"""Bytes for each of attention's scores."""
OF_LOGITS = 14
"""Bytes for each logit of a piece: itself, float32, softmax and gradients."""
OF_STATE = 4.4
"""States of linear attention that are held for each token, float32."""


@dataclass(frozen=True)
class Figures:
    parameters: int
    """Of the text part, which is all that mlx-lm loads."""
    size_gb: float
    memory_gb: float
    memory_4bit_gb: float


@functools.cache
def figures(name: str) -> Figures:
    config = {key: value for key, value in SHAPES[name].items() if key != "stored"}
    half, packed = _counted(config), _packed(config)
    rest = _adapter(config) + PROGRAM + memory_fit.SPARE * _gradient(config)
    loaded = _bytes(half)
    return Figures(
        parameters=sum(half.values()),
        size_gb=(loaded + HALF * SHAPES[name].get("stored", 0)) / 1e9,
        memory_gb=(loaded + rest) / 1e9,
        memory_4bit_gb=(packed + rest) / 1e9,
    )


def _model(config: dict[str, Any]) -> nn.Module:
    model_class, arguments = _get_classes(config)
    return model_class(arguments.from_dict(config))


def _arrays(model: nn.Module, config: dict[str, Any]) -> dict[str, mx.array]:
    """Without the head that mlx-lm's Gemma 3 has until it finds none in the weights."""
    text = {**config, **config.get("text_config", {})}
    return {
        key: value
        for key, value in tree_flatten(model.parameters())
        if not (text.get("tie_word_embeddings") and "lm_head" in key)
    }


def _counted(config: dict[str, Any]) -> dict[str, int]:
    return {key: value.size for key, value in _arrays(_model(config), config).items()}


def _bytes(counts: dict[str, int], other_bits: float = 16) -> float:
    """gpt-oss comes with its experts in MXFP4: 4 bits, and 8 for each 32 values."""
    return sum(
        count * (4.25 if ".experts." in key and key.endswith("weight") else other_bits) / 8
        for key, count in counts.items()
    )


def _packed(config: dict[str, Any]) -> float:
    """Bytes in 4 bits, a scale and an offset for each 64 values; gpt-oss's other layers in 8."""
    if config["model_type"] == "gpt_oss":
        return _bytes(_counted(config), 8.5)
    model = _model(config)
    nn.quantize(model, 64, 4)
    arrays = _arrays(model, config).values()
    return sum(each.nbytes if each.dtype == mx.uint32 else HALF * each.size for each in arrays)


def _adapter(config: dict[str, Any]) -> int:
    """Float32: factors, gradient, and AdamW's two means."""
    model = _model(config)
    adapters.attach(model, TrainConfig(rank=16))
    trained = tree_flatten(model.trainable_parameters())
    return 4 * 4 * int(sum(value.size for _, value in trained))


def _gradient(config: dict[str, Any]) -> float:
    """Bytes of one example's gradient, blocks computed again (`recompute: on`)."""
    text = {**config, **config.get("text_config", {})}
    hidden, heads = text["hidden_size"], text["num_attention_heads"]
    inner = text.get("intermediate_size") or text["block_ff_dim"]
    inner *= text.get("num_experts_per_tok", 1) * (2 if text.get("use_double_wide_mlp") else 1)
    inputs = text["num_hidden_layers"] * hidden
    block = OF_HIDDEN * hidden + OF_INTERMEDIATE * inner
    scores = OF_SCORES * heads * TOKENS**2
    state = text.get("linear_num_value_heads", 0) * 128 * 128
    logits = OF_LOGITS * min(TOKENS * text["vocab_size"], loss.LOGITS_AT_ONCE_GPU)
    size = HALF * TOKENS * (inputs + block) + scores + logits + 4 * OF_STATE * TOKENS * state
    return float(size)


if __name__ == "__main__":
    for name in SHAPES:
        found = figures(name)
        sys.stdout.write(
            f"{name:50} {found.parameters / 1e9:5.2f}B  {found.size_gb:5.1f} GB"
            f"  memory {found.memory_gb:5.1f}  4-bit {found.memory_4bit_gb:5.1f}\n"
        )
