"""Small random mixtures of experts as Hugging Face folders, and adapters of them made by mlx-lm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import load_model

from support.small_models import write_json, write_tokenizer

ROUTERS = (".mlp.gate.weight", ".mlp.router.weight")
COMMON = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 608,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
}
QWEN3MOE = {
    **COMMON,
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "intermediate_size": 128,
    "moe_intermediate_size": 96,
    "num_experts": 6,
    "num_experts_per_tok": 4,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "rope_theta": 1000000.0,
    "tie_word_embeddings": False,
}
GPT_OSS = {
    **COMMON,
    "architectures": ["GptOssForCausalLM"],
    "model_type": "gpt_oss",
    "num_hidden_layers": 4,
    "intermediate_size": 96,
    "num_local_experts": 6,
    "num_experts_per_tok": 4,
    "sliding_window": 16,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "attention_bias": True,
    "swiglu_limit": 7.0,
    "rope_theta": 150000.0,
    "rope_scaling": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 128,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "truncate": False,
    },
    "tie_word_embeddings": False,
    "quantization_config": {"quant_method": "mxfp4"},
}


def write(
    folder: Path, settings: dict[str, Any], *, seed: int = 0, **changes: Any
) -> dict[str, Any]:
    """A random model with its tokenizer, stored as Hugging Face stores it; returns its settings."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**settings, **changes}
    write_tokenizer(folder, "llama-bpe")
    write_json(folder / "config.json", config)
    random = np.random.default_rng(seed)
    weights = {name: _stored(random, name, shape) for name, shape in shapes(config).items()}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "pt"})
    return config


def _stored(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> mx.array:
    if name.endswith("_blocks"):
        return mx.array(random.integers(0, 256, shape, np.uint8))
    if name.endswith("_scales"):
        return mx.array(random.integers(121, 125, shape, np.uint8))
    noise = random.standard_normal(shape)
    if "norm" in name:
        values = 1 + 0.1 * noise
    elif name.endswith(ROUTERS):
        # Sure of its choice: where two experts are nearly level, rounding alone exchanges them.
        values = 4.0 * noise / shape[-1] ** 0.5
    else:
        values = (
            0.3 * noise if len(shape) == 1 or "bias" in name else 1.5 * noise / shape[-1] ** 0.5
        )
    return mx.array(values.astype(np.float32)).astype(mx.bfloat16)


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocabulary, hidden),
        "model.norm.weight": (hidden,),
        "lm_head.weight": (vocabulary, hidden),
    }
    block = _gpt_oss_block if config["model_type"] == "gpt_oss" else _qwen3moe_block
    for layer in range(config["num_hidden_layers"]):
        parts = {**_attention(config), **block(config)}
        found |= {f"model.layers.{layer}.{name}": shape for name, shape in parts.items()}
    return found


def _attention(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, size = config["hidden_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    return {
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (queries, hidden),
        "self_attn.k_proj.weight": (keys, hidden),
        "self_attn.v_proj.weight": (keys, hidden),
        "self_attn.o_proj.weight": (hidden, queries),
    }


def _qwen3moe_block(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, inner, size = config["hidden_size"], config["moe_intermediate_size"], config["head_dim"]
    block: dict[str, tuple[int, ...]] = {
        "self_attn.q_norm.weight": (size,),
        "self_attn.k_norm.weight": (size,),
        "mlp.gate.weight": (config["num_experts"], hidden),
    }
    for expert in range(config["num_experts"]):
        block |= {
            f"mlp.experts.{expert}.gate_proj.weight": (inner, hidden),
            f"mlp.experts.{expert}.up_proj.weight": (inner, hidden),
            f"mlp.experts.{expert}.down_proj.weight": (hidden, inner),
        }
    return block


def _gpt_oss_block(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, inner, experts = (
        config["hidden_size"],
        config["intermediate_size"],
        config["num_local_experts"],
    )
    heads, keys = config["num_attention_heads"], config["num_key_value_heads"]
    size = config["head_dim"]
    return {
        "self_attn.q_proj.bias": (heads * size,),
        "self_attn.k_proj.bias": (keys * size,),
        "self_attn.v_proj.bias": (keys * size,),
        "self_attn.o_proj.bias": (hidden,),
        "self_attn.sinks": (heads,),
        "mlp.router.weight": (experts, hidden),
        "mlp.router.bias": (experts,),
        "mlp.experts.gate_up_proj_blocks": (experts, 2 * inner, hidden // 32, 16),
        "mlp.experts.gate_up_proj_scales": (experts, 2 * inner, hidden // 32),
        "mlp.experts.gate_up_proj_bias": (experts, 2 * inner),
        "mlp.experts.down_proj_blocks": (experts, hidden, inner // 32, 16),
        "mlp.experts.down_proj_scales": (experts, hidden, inner // 32),
        "mlp.experts.down_proj_bias": (experts, hidden),
    }


ATTENTION = tuple(f"self_attn.{part}_proj" for part in "qkvo")
EXPERTS = {
    "qwen3_moe": tuple(f"mlp.switch_mlp.{part}_proj" for part in ("gate", "up", "down")),
    "gpt_oss": tuple(f"mlp.experts.{part}_proj" for part in ("gate", "up", "down")),
}
ROUTER = {"qwen3_moe": "mlp.gate", "gpt_oss": "mlp.router"}


def write_adapter(folder: Path, model: Path, keys: tuple[str, ...] | None = None) -> Path:
    """A random adapter on mlx-lm's own layers; of attention and experts where none are named."""
    folder.mkdir(parents=True, exist_ok=True)
    network, config = load_model(model)
    chosen = [*(keys or (*ATTENTION, *EXPERTS[config["model_type"]]))]
    settings = {"rank": 4, "scale": 2.0, "dropout": 0.0, "keys": chosen}
    network.freeze()
    linear_to_lora_layers(network, len(network.layers), settings)
    random = np.random.default_rng(1)
    tensors = {
        name: mx.array(0.1 * random.standard_normal(value.shape).astype(np.float32))
        for name, value in tree_flatten(network.trainable_parameters())
    }
    mx.save_safetensors(str(folder / "adapters.safetensors"), tensors)
    record = {"fine_tune_type": "lora", "num_layers": -1, "lora_parameters": settings}
    (folder / "adapter_config.json").write_text(json.dumps(record))
    return folder


def float32(network: nn.Module) -> nn.Module:
    network.set_dtype(mx.float32)
    return network
