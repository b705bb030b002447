"""Families that are Llama with a change or two: Ministral 3, Granite 3 and 4 (dense), SmolLM3.

What the change is, and what llama.cpp assumes of it without reading it in the file, is said at each.
Does not cover Granite with experts or state space layers.
"""

from __future__ import annotations

from gguf import MODEL_ARCH, RopeScalingType

from mlx_finetuning.errors import ModelSettingUnsupported
from mlx_finetuning.quantizer.families.family import (
    LLAMA_BLOCK,
    Config,
    Family,
    Metadata,
    common_metadata,
    head_size,
    llama_form,
    llama_metadata,
    require,
    required_weights,
    rope,
    rope_metadata,
    rope_tensors,
)
from mlx_finetuning.utils.model_settings import OUTSIDE_TEXT


def _required(config: Config) -> set[str]:
    return required_weights(config, LLAMA_BLOCK, bool(config["tie_word_embeddings"]))


# --- Ministral 3: queries grow with their position ---------------------------------------


def _ministral3_metadata(config: Config) -> Metadata:
    """Raises ModelSettingUnsupported, KeyError."""
    settings = rope(config)
    require(settings, "rope_type", ("yarn",))
    require(settings, "mscale", (1, 1.0))
    require(config, "sliding_window", ())
    yarn: Metadata = {
        "rope.scaling.type": RopeScalingType.YARN.value,
        "rope.scaling.factor": float(settings["factor"]),
        "rope.scaling.original_context_length": settings["original_max_position_embeddings"],
        "rope.scaling.yarn_log_multiplier": float(settings.get("mscale_all_dim", 0)),
        "attention.temperature_scale": float(settings["llama_4_scaling_beta"]),
    }
    for setting in ("beta_fast", "beta_slow"):
        if settings.get(setting) is not None:
            yarn[f"rope.scaling.yarn_{setting}"] = float(settings[setting])
    plain = {**config, "rope_parameters": None, "rope_scaling": None}
    base: Metadata = {"rope.freq_base": float(settings["rope_theta"])}
    return {**llama_metadata(plain), **base, **yarn}


def _mistral3_metadata(config: Config) -> Metadata:
    """Of the text part of a model that sees: Ministral 3, or Mistral as it was before."""
    if config.get("model_type") == "ministral3":
        return _ministral3_metadata(config)
    require(config, "model_type", ("mistral",))
    return llama_metadata(config)


MINISTRAL3 = Family(MODEL_ARCH.MISTRAL3, _ministral3_metadata, _required, llama_form)
MISTRAL3 = Family(
    MODEL_ARCH.MISTRAL3,
    _mistral3_metadata,
    _required,
    llama_form,
    rope_tensors,
    unused=OUTSIDE_TEXT,
)

# --- Granite: scales at four places ------------------------------------------------------


def _granite_metadata(config: Config) -> Metadata:
    """Raises ModelSettingUnsupported, KeyError."""
    # Neither mlx-lm nor llama.cpp take another size of heads.
    require(config, "head_dim", (config["hidden_size"] // config["num_attention_heads"],))
    require(config, "hidden_act", ("silu",))
    if "layer_types" in config:
        _check_dense(config)
    else:
        require(rope(config), "rope_type", ("default", "linear"))
    return {
        **common_metadata(config),
        **rope_metadata(config),
        "rope.dimension_count": head_size(config),
        "vocab_size": config["vocab_size"],
        "attention.scale": float(config["attention_multiplier"]),
        "embedding_scale": float(config["embedding_multiplier"]),
        "residual_scale": float(config["residual_multiplier"]),
        "logit_scale": float(config["logits_scaling"]),
    }


def _check_dense(config: Config) -> None:
    """Granite 4 without experts and state space layers. Raises ModelSettingUnsupported."""
    require(config, "num_local_experts", (0,))
    require(config, "position_embedding_type", ("rope",))
    require(config, "shared_intermediate_size", (config["intermediate_size"],))
    # mlx-lm's class reads no scaling.
    require(rope(config), "rope_type", ("default",))
    if set(config["layer_types"]) != {"attention"}:
        raise ModelSettingUnsupported(
            setting="layer_types", value="mambaを含む並び", supported="すべて attention の並び"
        )


GRANITE = Family(MODEL_ARCH.GRANITE, _granite_metadata, _required, llama_form)

# --- SmolLM3: every fourth layer turns nothing -------------------------------------------

UNTURNED = 4
"""llama.cpp knows it, the file does not say it."""


def _smollm3_metadata(config: Config) -> Metadata:
    """Raises ModelSettingUnsupported, KeyError."""
    require(config, "no_rope_layer_interval", (UNTURNED,))
    require(config, "use_sliding_window", (False,))
    count = config["num_hidden_layers"]
    expected = [int((layer + 1) % UNTURNED != 0) for layer in range(count)]
    if config.get("no_rope_layers") not in (None, expected):
        raise ModelSettingUnsupported(
            setting="no_rope_layers", value="ほかの並び", supported="4層ごとに1層が回転しない並び"
        )
    return llama_metadata(config)


SMOLLM3 = Family(
    MODEL_ARCH.SMOLLM3,
    _smollm3_metadata,
    _required,
    llama_form,
    rope_tensors,
    fewest_layers=lambda config: UNTURNED,
)
