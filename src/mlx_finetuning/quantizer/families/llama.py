"""Llama and families that are Llama with a change or two: Ministral 3, Granite 3 and 4 (dense), SmolLM3.

What the change is, and what llama.cpp assumes of it without reading it in the file, is said at each.
Does not cover Granite with experts or state space layers.
"""

from __future__ import annotations

import numpy as np
from gguf import MODEL_ARCH

from mlx_finetuning.errors import ModelSettingUnsupported
from mlx_finetuning.quantizer.families.family import (
    AS_IT_IS,
    LLAMA_BLOCK,
    Config,
    Family,
    Form,
    Metadata,
    Tensors,
    common_metadata,
    head_metadata,
    head_size,
    key_heads,
    require,
    rope,
    rope_metadata,
    rope_tensors,
    yarn_metadata,
    yarn_ramp_metadata,
)
from mlx_finetuning.utils.model_settings import OUTSIDE_TEXT


def llama_metadata(config: Config) -> Metadata:
    """Of Llama and what is built alike. Raises ModelSettingUnsupported."""
    require(config, "hidden_act", ("silu",))
    return {
        **common_metadata(config),
        **head_metadata(config),
        **rope_metadata(config),
        "rope.dimension_count": head_size(config),
        "vocab_size": config["vocab_size"],
    }


class LlamaLike(Family):
    """Blocks of Llama's weights, whose queries and keys are rotated in pairs of halves."""

    block = LLAMA_BLOCK

    def form(self, config: Config, source: str) -> Form:
        """Hugging Face splits a head's rotated pairs into halves; llama.cpp keeps them side by side."""
        module = source.rpartition(".")[0]
        heads = {"q_proj": config["num_attention_heads"], "k_proj": key_heads(config)}
        count = heads.get(module.rpartition(".")[2])
        if count is None:
            return AS_IT_IS
        rows = np.arange(count * head_size(config)).reshape(count, 2, -1)
        return Form(rows.swapaxes(1, 2).reshape(-1))


class Llama(LlamaLike):
    """Llama and Mistral."""

    arch = MODEL_ARCH.LLAMA

    def metadata(self, config: Config) -> Metadata:
        """As most families state it."""
        return llama_metadata(config)

    def computed_tensors(self, config: Config) -> Tensors:
        """Llama 3 scales its frequencies by a tensor."""
        return rope_tensors(config)

    def is_70b(self, config: Config) -> bool:
        """By layers and grouped heads, as llama.cpp does."""
        has_grouped_heads: bool = config["num_attention_heads"] != key_heads(config)
        return config["num_hidden_layers"] == 80 and has_grouped_heads


class Ministral3(LlamaLike):
    """Queries grow with their position."""

    arch = MODEL_ARCH.MISTRAL3

    def metadata(self, config: Config) -> Metadata:
        """YaRN with a scale of the logits, and queries scaled by their position."""
        settings = rope(config)
        require(settings, "rope_type", ("yarn",))
        require(settings, "mscale", (1, 1.0))
        require(config, "sliding_window", ())
        own: Metadata = {
            "rope.freq_base": float(settings["rope_theta"]),
            **yarn_metadata(settings),
            "rope.scaling.yarn_log_multiplier": float(settings.get("mscale_all_dim", 0)),
            "attention.temperature_scale": float(settings["llama_4_scaling_beta"]),
            **yarn_ramp_metadata(settings),
        }
        without_rope = {**config, "rope_parameters": None, "rope_scaling": None}
        return {**llama_metadata(without_rope), **own}


class Mistral3(Ministral3):
    """The text part of a model that sees: Ministral 3, or Mistral as it was before."""

    unused = OUTSIDE_TEXT

    def metadata(self, config: Config) -> Metadata:
        """By the text part's own `model_type`."""
        if config.get("model_type") == "ministral3":
            return super().metadata(config)
        require(config, "model_type", ("mistral",))
        return llama_metadata(config)

    def computed_tensors(self, config: Config) -> Tensors:
        """As Llama's."""
        return rope_tensors(config)


class Granite(LlamaLike):
    """Scales at four places."""

    arch = MODEL_ARCH.GRANITE

    def metadata(self, config: Config) -> Metadata:
        """Raises ModelSettingUnsupported for Granite 4 with experts or state space layers."""
        # Neither mlx-lm nor llama.cpp take another size of heads.
        require(config, "head_dim", (config["hidden_size"] // config["num_attention_heads"],))
        require(config, "hidden_act", ("silu",))
        if "layer_types" in config:  # Granite 4: without experts and state space layers
            require(config, "num_local_experts", (0,))
            require(config, "position_embedding_type", ("rope",))
            require(config, "shared_intermediate_size", (config["intermediate_size"],))
            # mlx-lm's class reads no scaling.
            require(rope(config), "rope_type", ("default",))
            if set(config["layer_types"]) != {"attention"}:
                raise ModelSettingUnsupported(
                    setting="layer_types",
                    value="mambaを含む並び",
                    supported="すべて attention の並び",
                )
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


NO_ROPE_INTERVAL = 4
"""llama.cpp knows it, the file does not say it."""


class SmolLM3(LlamaLike):
    """Every fourth layer rotates nothing."""

    arch = MODEL_ARCH.SMOLLM3

    def metadata(self, config: Config) -> Metadata:
        """Raises ModelSettingUnsupported for another order of the layers that do not rotate."""
        require(config, "no_rope_layer_interval", (NO_ROPE_INTERVAL,))
        require(config, "use_sliding_window", (False,))
        count = config["num_hidden_layers"]
        expected = [int((layer + 1) % NO_ROPE_INTERVAL != 0) for layer in range(count)]
        if config.get("no_rope_layers") not in (None, expected):
            raise ModelSettingUnsupported(
                setting="no_rope_layers",
                value="ほかの並び",
                supported="4層ごとに1層が回転しない並び",
            )
        return llama_metadata(config)

    def computed_tensors(self, config: Config) -> Tensors:
        """As Llama's."""
        return rope_tensors(config)

    def fewest_layers(self, config: Config) -> int:
        """Up to the first that rotates nothing."""
        return NO_ROPE_INTERVAL
