"""Llama and families that are Llama with a change or two: Ministral 3, Granite 3 and 4 (dense), SmolLM3.

What the change is, and what llama.cpp assumes of it without reading it in the file, is said at each.
Does not cover Granite with experts or state space layers.
"""

from __future__ import annotations

import numpy as np
from gguf import MODEL_ARCH

from mlx_finetuning.errors import ModelSettingUnsupported
from mlx_finetuning.language import _
from mlx_finetuning.quantizer.families import family
from mlx_finetuning.quantizer.families.family import Config, Family, Form, Metadata, Tensors
from mlx_finetuning.utils.model_settings import OUTSIDE_TEXT


def llama_metadata(config: Config) -> Metadata:
    """Of Llama and what is built alike. Raises ModelSettingUnsupported."""
    family.require(config, "hidden_act", ("silu",))
    return {
        **family.common_metadata(config),
        **family.head_metadata(config),
        **family.rope_metadata(config),
        "rope.dimension_count": family.head_size(config),
        "vocab_size": config["vocab_size"],
    }


class LlamaLike(Family):
    """Blocks of Llama's weights, whose queries and keys are rotated in pairs of halves."""

    block = family.LLAMA_BLOCK

    def form(self, config: Config, source: str) -> Form:
        """Hugging Face splits a head's rotated pairs into halves; llama.cpp keeps them side by side."""
        module = source.rpartition(".")[0]
        heads = {"q_proj": config["num_attention_heads"], "k_proj": family.key_heads(config)}
        count = heads.get(module.rpartition(".")[2])
        if count is None:
            return family.AS_IT_IS
        rows = np.arange(count * family.head_size(config)).reshape(count, 2, -1)
        return Form(rows.swapaxes(1, 2).reshape(-1))

    def computed_tensors(self, config: Config) -> Tensors:
        """Llama 3 scales its frequencies by a tensor, and others may."""
        return family.rope_tensors(config)


class Llama(LlamaLike):
    """Llama and Mistral."""

    arch = MODEL_ARCH.LLAMA

    def metadata(self, config: Config) -> Metadata:
        """As most families state it."""
        return llama_metadata(config)

    def is_70b(self, config: Config) -> bool:
        """By layers and grouped heads, as llama.cpp does."""
        has_grouped_heads: bool = config["num_attention_heads"] != family.key_heads(config)
        return config["num_hidden_layers"] == 80 and has_grouped_heads


class Ministral3(LlamaLike):
    """Queries grow with their position."""

    arch = MODEL_ARCH.MISTRAL3

    def metadata(self, config: Config) -> Metadata:
        """YaRN with a scale of the logits, and queries scaled by their position."""
        settings = family.rope(config)
        family.require(settings, "rope_type", ("yarn",))
        family.require(settings, "mscale", (1, 1.0))
        family.require(config, "sliding_window", ())
        own: Metadata = {
            "rope.freq_base": float(settings["rope_theta"]),
            **family.yarn_metadata(settings),
            "rope.scaling.yarn_log_multiplier": float(settings.get("mscale_all_dim", 0)),
            "attention.temperature_scale": float(settings["llama_4_scaling_beta"]),
            **family.yarn_ramp_metadata(settings),
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
        family.require(config, "model_type", ("mistral",))
        return llama_metadata(config)


class Granite(LlamaLike):
    """Scales at four places."""

    arch = MODEL_ARCH.GRANITE

    def metadata(self, config: Config) -> Metadata:
        """Raises ModelSettingUnsupported for Granite 4 with experts or state space layers."""
        # Neither mlx-lm nor llama.cpp take another size of heads.
        family.require(
            config, "head_dim", (config["hidden_size"] // config["num_attention_heads"],)
        )
        family.require(config, "hidden_act", ("silu",))
        if "layer_types" in config:  # Granite 4: without experts and state space layers
            family.require(config, "num_local_experts", (0,))
            family.require(config, "position_embedding_type", ("rope",))
            family.require(config, "shared_intermediate_size", (config["intermediate_size"],))
            # mlx-lm's class reads no scaling.
            family.require(family.rope(config), "rope_type", ("default",))
            if set(config["layer_types"]) != {"attention"}:
                raise ModelSettingUnsupported(
                    setting="layer_types",
                    value=_("mambaを含む並び"),
                    supported=_("すべて attention の並び"),
                )
        else:
            family.require(family.rope(config), "rope_type", ("default", "linear"))
        return {
            **family.common_metadata(config),
            **family.rope_metadata(config),
            "rope.dimension_count": family.head_size(config),
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
        family.require(config, "no_rope_layer_interval", (NO_ROPE_INTERVAL,))
        family.require(config, "use_sliding_window", (False,))
        count = config["num_hidden_layers"]
        expected = [int((layer + 1) % NO_ROPE_INTERVAL != 0) for layer in range(count)]
        if config.get("no_rope_layers") not in (None, expected):
            raise ModelSettingUnsupported(
                setting="no_rope_layers",
                value=_("ほかの並び"),
                supported=_("4層ごとに1層が回転しない並び"),
            )
        return llama_metadata(config)

    def fewest_layers(self, config: Config) -> int:
        """Up to the first that rotates nothing."""
        return NO_ROPE_INTERVAL
