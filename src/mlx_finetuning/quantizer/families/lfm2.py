"""LFM2 and LFM2.5: short convolutions in most blocks, attention in the others.

A file tells them apart by the number of key heads, which is none for convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from gguf import MODEL_ARCH

from mlx_finetuning.quantizer.families import family
from mlx_finetuning.quantizer.families.family import Config, Family, Metadata

_SHARED = ("operator_norm", "ffn_norm", *(f"feed_forward.w{number}" for number in (1, 2, 3)))
_ATTENTION = tuple(
    f"self_attn.{part}"
    for part in ("q_proj", "k_proj", "v_proj", "out_proj", "q_layernorm", "k_layernorm")
)
_CONVOLUTION = ("conv.conv", "conv.in_proj", "conv.out_proj")


class Lfm2(Family):
    """LFM2 and LFM2.5, without experts."""

    arch = MODEL_ARCH.LFM2
    pre_tokenizers: ClassVar[Mapping[str, str]] = {"llama-bpe": "lfm2"}
    tied_by_default = True

    def metadata(self, config: Config) -> Metadata:
        """Its own words for the usual settings are translated."""
        family.require(config, "conv_bias", (False,))
        family.require(
            config, "head_dim", (config["hidden_size"] // config["num_attention_heads"],)
        )
        family.require(config, "block_dim", (config["hidden_size"],))
        family.require(family.rope(config), "rope_type", ("default",))
        usual_names = {
            **config,
            "intermediate_size": feed_forward_size(config),
            "rms_norm_eps": config["norm_eps"],
        }
        return {
            **family.common_metadata(usual_names),
            **self.layer_metadata(config, config["num_hidden_layers"]),
            **family.rope_metadata(config),
            "vocab_size": config["vocab_size"],
            "shortconv.l_cache": config["conv_L_cache"],
        }

    def layer_metadata(self, config: Config, layers: int) -> Metadata:
        """A convolution has no key heads."""
        heads, attending = family.key_heads(config), attention_layers(config)
        counts = [heads if layer in attending else 0 for layer in range(layers)]
        return {"attention.head_count_kv": counts}

    def required(self, config: Config) -> set[str]:
        """Attention or a convolution in every layer; no output head."""
        names = {"model.embed_tokens.weight", "model.embedding_norm.weight"}
        for layer in range(config["num_hidden_layers"]):
            own = _ATTENTION if layer in attention_layers(config) else _CONVOLUTION
            names |= {f"model.layers.{layer}.{part}.weight" for part in (*_SHARED, *own)}
        return names

    def fewest_layers(self, config: Config) -> int:
        """Up to the first of each kind: mlx-lm looks for its masks there."""
        attending = attention_layers(config)
        layers = range(len(attending) + 1)
        first_convolution = next(layer for layer in layers if layer not in attending)
        return max(attending[0], first_convolution) + 1


def attention_layers(config: Config) -> list[int]:
    """The numbers of the layers that have attention."""
    if (stated := config.get("full_attn_idxs")) is not None:
        return list(stated)
    kinds = config["layer_types"]
    return [layer for layer, kind in enumerate(kinds) if kind == "full_attention"]


def feed_forward_size(config: Config) -> int:
    """mlx-lm and the original round it as Llama's first code did."""
    width = int(config.get("block_ff_dim") or config["intermediate_size"])
    if config["block_auto_adjust_ff_dim"]:
        width = int(2 * width / 3)
        if (factor := config["block_ffn_dim_multiplier"]) is not None:
            width = int(factor * width)
        step = config["block_multiple_of"]
        width = step * (-(-width // step))
    return width
