"""Gemma 4's text part, without experts: settings per layer, shared keys and values, inputs per layer.

Upper layers may take keys and values from lower ones, and small models give every layer an input
of its own, looked up per token in one wide table. llama.cpp takes shared keys and values from the
last two layers that have their own, which is checked here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gguf import MODEL_ARCH

from mlx_finetuning.errors import ModelSettingUnsupported
from mlx_finetuning.quantizer.families.family import (
    GELU,
    MLP,
    NORMS,
    ROPE_FREQUENCIES,
    Config,
    Family,
    Metadata,
    Tensors,
    common_metadata,
    require,
    required_weights,
)

NEVER = np.float32(1e30)
"""Divides the frequency of what is not rotated."""
_BLOCK = (
    *MLP,
    *NORMS,
    "pre_feedforward_layernorm.weight",
    "post_feedforward_layernorm.weight",
    "self_attn.q_proj.weight",
    "self_attn.o_proj.weight",
    "self_attn.q_norm.weight",
    "layer_scalar",
)
_BLOCK_INPUT = tuple(
    f"{part}.weight"
    for part in ("per_layer_input_gate", "per_layer_projection", "post_per_layer_input_norm")
)
_INPUTS = tuple(
    f"model.{part}.weight"
    for part in (
        "embed_tokens_per_layer",
        "per_layer_model_projection",
        "per_layer_projection_norm",
    )
)


def _metadata(config: Config) -> Metadata:
    _check(config)
    everywhere, near = _rope(config, "full_attention"), _rope(config, "sliding_attention")
    whole, size = _head_size(config), config["head_dim"]
    return {
        **common_metadata(config),
        **_per_layer(config, config["num_hidden_layers"]),
        "embedding_length_per_layer_input": config["hidden_size_per_layer_input"] or 0,
        "attention.key_length": whole,
        "attention.value_length": whole,
        "attention.key_length_swa": size,
        "attention.value_length_swa": size,
        "attention.sliding_window": config["sliding_window"],
        "rope.freq_base": float(everywhere["rope_theta"]),
        "rope.freq_base_swa": float(near["rope_theta"]),
        "rope.dimension_count": whole,
        "rope.dimension_count_swa": size,
        # What the file does not say llama.cpp takes for 30; zero is none.
        "final_logit_softcapping": float(config["final_logit_softcapping"] or 0),
    }


def _per_layer(config: Config, count: int) -> Metadata:
    """What differs among the first `count` layers."""
    own = _own_keys(config)
    inner = config["intermediate_size"]
    values: Metadata = {
        "attention.shared_kv_layers": max(0, count - own),
        "attention.sliding_window_pattern": [not _is_full(config, at) for at in range(count)],
    }
    if config["use_double_wide_mlp"]:
        values["feed_forward_length"] = [inner * (1 + (at >= own)) for at in range(count)]
    if (everywhere := _global_key_heads(config)) is not None:
        near = config["num_key_value_heads"]
        heads = [everywhere if _is_full(config, at) else near for at in range(count)]
        values["attention.head_count_kv"] = heads
    return values


def _own_keys(config: Config) -> int:
    """Layers, from the first, that have keys and values of their own."""
    return int(config["num_hidden_layers"] - config["num_kv_shared_layers"])


def _is_full(config: Config, layer: int) -> bool:
    return bool(config["layer_types"][layer] == "full_attention")


def _head_size(config: Config) -> int:
    """Where everything is attended to."""
    return int(config["global_head_dim"] or config["head_dim"])


def _global_key_heads(config: Config) -> int | None:
    """Where everything is attended to, if not as elsewhere."""
    return config.get("num_global_key_value_heads") if _values_are_keys(config) else None


def _values_are_keys(config: Config) -> bool:
    """Layers that attend to everything have no values of their own."""
    return bool(config.get("attention_k_eq_v"))


def _rope(config: Config, kind: str) -> dict[str, Any]:
    return {"rope_type": "default", "factor": 1.0, **config["rope_parameters"][kind]}


# --- what llama.cpp assumes --------------------------------------------------------------


def _check(config: Config) -> None:
    """Raises ModelSettingUnsupported."""
    require(config, "hidden_activation", GELU)
    require(config, "enable_moe_block", (False,))
    require(config, "use_bidirectional_attention", ("vision",))
    require(config, "rope_traditional", (False,))
    if config["hidden_size_per_layer_input"]:
        require(config, "vocab_size_per_layer_input", (config["vocab_size"],))
    require(_rope(config, "full_attention"), "rope_type", ("proportional",))
    require(_rope(config, "full_attention"), "factor", (1.0,))
    require(_rope(config, "sliding_attention"), "rope_type", ("default",))
    require(_rope(config, "sliding_attention"), "partial_rotary_factor", (1.0,))
    _check_layers(config)


def _check_layers(config: Config) -> None:
    own = _own_keys(config)
    last = config["layer_types"][max(0, own - 2) : own]
    if own < len(config["layer_types"]) and last != ["sliding_attention", "full_attention"]:
        raise ModelSettingUnsupported(
            setting="num_kv_shared_layers",
            value=str(config["num_kv_shared_layers"]),
            supported="共有の始まる直前が sliding_attention、full_attention の2層である並び",
        )


# --- weights -----------------------------------------------------------------------------


def _required(config: Config) -> set[str]:
    inputs = bool(config["hidden_size_per_layer_input"])
    block = (*_BLOCK, *(_BLOCK_INPUT if inputs else ()))
    names = required_weights(config, block, GEMMA4.is_tied(config)) | {*(_INPUTS if inputs else ())}
    for layer in range(_own_keys(config)):
        own = ["k_proj", "k_norm"]
        if not (_values_are_keys(config) and _is_full(config, layer)):
            own.append("v_proj")
        names |= {f"model.layers.{layer}.self_attn.{part}.weight" for part in own}
    return names


def _rope_factors(config: Config) -> Tensors:
    """Of layers that attend to everything: only the fast frequencies are rotated by."""
    half = _head_size(config) // 2
    share = _rope(config, "full_attention").get("partial_rotary_factor", 1.0)
    rotated = int(_head_size(config) * share / 2)
    factors = np.where(np.arange(half) < rotated, np.float32(1), NEVER)
    return {ROPE_FREQUENCIES: factors.astype(np.float32)}


def _fewest_layers(config: Config) -> int:
    """Up to the first that attends to everything, for the factors above are its."""
    return max(2, [*config["layer_types"]].index("full_attention") + 1)


GEMMA4 = Family(
    MODEL_ARCH.GEMMA4,
    _metadata,
    _required,
    extra=_rope_factors,
    renamed={"layer_scalar": "layer_scalar.weight"},
    unused=tuple(
        f"{start}{part}"
        for start in ("model.", "")
        for part in ("vision_", "audio_", "embed_vision.", "embed_audio.", "multi_modal_projector.")
    ),
    tied_by_default=True,
    fewest_layers=_fewest_layers,
    per_layer=_per_layer,
    tokenizer_model="gemma4",
)
