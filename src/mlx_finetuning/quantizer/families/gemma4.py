"""Gemma 4's text part, without experts: settings per layer, shared keys and values, inputs per layer.

Upper layers may take keys and values from lower ones, and small models give every layer an input
of its own, looked up per token in one wide table. llama.cpp takes shared keys and values from the
last two layers that have their own, which is checked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from gguf import MODEL_ARCH

from mlx_finetuning.errors import ModelSettingUnsupported
from mlx_finetuning.files import JsonObject
from mlx_finetuning.language import _
from mlx_finetuning.quantizer.families import family
from mlx_finetuning.quantizer.families.family import Config, Family, Metadata, Tensors

NEVER = np.float32(1e30)
"""Divides the frequency of what is not rotated."""
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


class Gemma4(Family):
    """The text part of Gemma 4."""

    arch = MODEL_ARCH.GEMMA4
    block = (
        *family.MLP,
        *family.NORMS,
        "pre_feedforward_layernorm.weight",
        "post_feedforward_layernorm.weight",
        "self_attn.q_proj.weight",
        "self_attn.o_proj.weight",
        "self_attn.q_norm.weight",
        "layer_scalar",
    )
    renamed: ClassVar[Mapping[str, str]] = {"layer_scalar": "layer_scalar.weight"}
    unused = tuple(
        f"{start}{part}"
        for start in ("model.", "")
        for part in ("vision_", "audio_", "embed_vision.", "embed_audio.", "multi_modal_projector.")
    )
    tied_by_default = True
    tokenizer_model = "gemma4"

    def metadata(self, config: Config) -> Metadata:
        """Sizes are those of layers that attend to everything; `_swa` those of the others."""
        _require_what_llama_cpp_assumes(config)
        full, sliding = _rope(config, "full_attention"), _rope(config, "sliding_attention")
        full_size, size = _full_head_size(config), config["head_dim"]
        return {
            **family.common_metadata(config),
            **self.layer_metadata(config, config["num_hidden_layers"]),
            "embedding_length_per_layer_input": config["hidden_size_per_layer_input"] or 0,
            "attention.key_length": full_size,
            "attention.value_length": full_size,
            "attention.key_length_swa": size,
            "attention.value_length_swa": size,
            "attention.sliding_window": config["sliding_window"],
            "rope.freq_base": float(full["rope_theta"]),
            "rope.freq_base_swa": float(sliding["rope_theta"]),
            "rope.dimension_count": full_size,
            "rope.dimension_count_swa": size,
            # What the file does not say llama.cpp takes for 30; zero is none.
            "final_logit_softcapping": float(config["final_logit_softcapping"] or 0),
        }

    def layer_metadata(self, config: Config, layers: int) -> Metadata:
        """Which layers have a window, shared keys, a wide MLP, or fewer key heads."""
        own = _layers_with_keys(config)
        inner = config["intermediate_size"]
        is_full = [_is_full(config, layer) for layer in range(layers)]
        metadata: Metadata = {
            "attention.shared_kv_layers": max(0, layers - own),
            "attention.sliding_window_pattern": [not full for full in is_full],
        }
        if config["use_double_wide_mlp"]:
            widths = [inner * (1 + (layer >= own)) for layer in range(layers)]
            metadata["feed_forward_length"] = widths
        full_heads = config.get("num_global_key_value_heads")
        if full_heads is not None and _values_are_keys(config):
            heads = config["num_key_value_heads"]
            counts = [full_heads if full else heads for full in is_full]
            metadata["attention.head_count_kv"] = counts
        return metadata

    def required(self, config: Config) -> set[str]:
        """Layers with shared keys need none, and not every model gives layers an input."""
        has_inputs = bool(config["hidden_size_per_layer_input"])
        block = (*self.block, *(_BLOCK_INPUT if has_inputs else ()))
        names = family.required_weights(config, block, self.is_tied(config))
        if has_inputs:
            names |= {*_INPUTS}
        for layer in range(_layers_with_keys(config)):
            own = ["k_proj", "k_norm"]
            if not (_values_are_keys(config) and _is_full(config, layer)):
                own.append("v_proj")
            names |= {f"model.layers.{layer}.self_attn.{part}.weight" for part in own}
        return names

    def computed_tensors(self, config: Config) -> Tensors:
        """Of layers that attend to everything: only the fast frequencies are rotated by."""
        half = _full_head_size(config) // 2
        share = _rope(config, "full_attention").get("partial_rotary_factor", 1.0)
        rotated = int(_full_head_size(config) * share / 2)
        factors = np.where(np.arange(half) < rotated, np.float32(1), NEVER)
        return {family.ROPE_FREQUENCIES: factors.astype(np.float32)}

    def fewest_layers(self, config: Config) -> int:
        """Up to the first that attends to everything, for the computed factors are its."""
        return max(2, [*config["layer_types"]].index("full_attention") + 1)


def _require_what_llama_cpp_assumes(config: Config) -> None:
    """Raises ModelSettingUnsupported."""
    family.require(config, "hidden_activation", family.GELU)
    family.require(config, "enable_moe_block", (False,))
    family.require(config, "use_bidirectional_attention", ("vision",))
    family.require(config, "rope_traditional", (False,))
    if config["hidden_size_per_layer_input"]:
        family.require(config, "vocab_size_per_layer_input", (config["vocab_size"],))
    family.require(_rope(config, "full_attention"), "rope_type", ("proportional",))
    family.require(_rope(config, "full_attention"), "factor", (1.0,))
    family.require(_rope(config, "sliding_attention"), "rope_type", ("default",))
    family.require(_rope(config, "sliding_attention"), "partial_rotary_factor", (1.0,))
    own = _layers_with_keys(config)
    last = config["layer_types"][max(0, own - 2) : own]
    if own < len(config["layer_types"]) and last != ["sliding_attention", "full_attention"]:
        raise ModelSettingUnsupported(
            setting="num_kv_shared_layers",
            value=str(config["num_kv_shared_layers"]),
            supported=_("共有の始まる直前が sliding_attention、full_attention の2層である並び"),
        )


def _layers_with_keys(config: Config) -> int:
    """Layers, from the first, that have keys and values of their own."""
    return int(config["num_hidden_layers"] - config["num_kv_shared_layers"])


def _is_full(config: Config, layer: int) -> bool:
    """Whether a layer attends to everything."""
    return bool(config["layer_types"][layer] == "full_attention")


def _full_head_size(config: Config) -> int:
    """Columns of a head in layers that attend to everything."""
    return int(config["global_head_dim"] or config["head_dim"])


def _values_are_keys(config: Config) -> bool:
    """Layers that attend to everything have no values of their own."""
    return bool(config.get("attention_k_eq_v"))


def _rope(config: Config, kind: str) -> JsonObject:
    return {"rope_type": "default", "factor": 1.0, **config["rope_parameters"][kind]}
