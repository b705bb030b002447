"""gpt-oss: experts with biases in MXFP4, attention with sinks, every second block in a window.

What llama.cpp does not read from the file is checked: the order of the blocks and the bound of the
activation. Experts that no run changed keep their four-bit numbers to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from gguf import MODEL_ARCH

from mlx_finetuning.language import _
from mlx_finetuning.quantizer.families import family
from mlx_finetuning.quantizer.families.family import Config, Family, Metadata

PATTERN = ("sliding_attention", "full_attention")


class GptOss(Family):
    """gpt-oss 20b and 120b."""

    arch = MODEL_ARCH.GPT_OSS
    block = (
        *family.NORMS,
        *(f"self_attn.{part}_proj.{kind}" for part in "qkvo" for kind in ("weight", "bias")),
        "self_attn.sinks",
        "mlp.router.weight",
        "mlp.router.bias",
        *(
            f"mlp.experts.{part}_proj.{kind}"
            for part in ("gate", "up", "down")
            for kind in ("weight", "bias")
        ),
    )
    renamed: ClassVar[Mapping[str, str]] = {"sinks": "sinks.weight"}

    def metadata(self, config: Config) -> Metadata:
        """Raises ModelSettingUnsupported for another order of blocks or bound of the activation."""
        family.require(config, "hidden_act", ("silu",))
        family.require(config, "attention_bias", (True,))
        family.require(config, "tie_word_embeddings", (False,))
        family.require(config, "swiglu_limit", (7.0,))
        family.require(family.rope(config), "rope_type", ("default", "yarn"))
        pattern = [PATTERN[layer % 2] for layer in range(config["num_hidden_layers"])]
        family.require_layer_types(config, pattern, _("1層おきに窓のある並び"))
        return {
            **family.common_metadata(config),
            **family.head_metadata(config),
            **family.rope_metadata(config),
            "attention.sliding_window": config["sliding_window"],
            "expert_count": config["num_local_experts"],
            "expert_used_count": config["num_experts_per_tok"],
            "expert_feed_forward_length": config["intermediate_size"],
        }

    def fewest_layers(self, config: Config) -> int:
        """One of each kind."""
        return len(PATTERN)
