"""gpt-oss: experts with biases in MXFP4, attention with sinks, every second block in a window.

What llama.cpp does not read from the file is checked: the order of the blocks and the bound of the
activation. Experts that no run changed keep their four-bit numbers to the last bit.
"""

from __future__ import annotations

from gguf import MODEL_ARCH

from mlx_finetuning.errors import ModelSettingUnsupported
from mlx_finetuning.quantizer.families.family import (
    NORMS,
    Config,
    Family,
    Metadata,
    common_metadata,
    head_metadata,
    require,
    required_weights,
    rope,
    rope_metadata,
)

PATTERN = ("sliding_attention", "full_attention")
_BLOCK = (
    *NORMS,
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


def _metadata(config: Config) -> Metadata:
    require(config, "hidden_act", ("silu",))
    require(config, "attention_bias", (True,))
    require(config, "tie_word_embeddings", (False,))
    require(config, "swiglu_limit", (7.0,))
    require(rope(config), "rope_type", ("default", "yarn"))
    _check_layers(config)
    return {
        **common_metadata(config),
        **head_metadata(config),
        **rope_metadata(config),
        "attention.sliding_window": config["sliding_window"],
        "expert_count": config["num_local_experts"],
        "expert_used_count": config["num_experts_per_tok"],
        "expert_feed_forward_length": config["intermediate_size"],
    }


def _check_layers(config: Config) -> None:
    """Raises ModelSettingUnsupported."""
    expected = [PATTERN[layer % 2] for layer in range(config["num_hidden_layers"])]
    if config.get("layer_types") not in (None, expected):
        raise ModelSettingUnsupported(
            setting="layer_types", value="ほかの並び", supported="1層おきに窓のある並び"
        )


def _required(config: Config) -> set[str]:
    return required_weights(config, _BLOCK, False)


GPT_OSS = Family(
    MODEL_ARCH.GPT_OSS,
    _metadata,
    _required,
    renamed={"sinks": "sinks.weight"},
    fewest_layers=lambda config: len(PATTERN),
)
