"""LFM2 and LFM2.5: short convolutions in most blocks, attention in the others.

A file tells them apart by the number of key heads, which is none for convolutions.
"""

from __future__ import annotations

from gguf import MODEL_ARCH

from mlx_finetuning.quantizer.families.family import (
    Config,
    Family,
    Metadata,
    common_metadata,
    key_heads,
    require,
    rope,
    rope_metadata,
)

_SHARED = ("operator_norm", "ffn_norm", *(f"feed_forward.w{number}" for number in (1, 2, 3)))
_ATTENTION = tuple(
    f"self_attn.{part}"
    for part in ("q_proj", "k_proj", "v_proj", "out_proj", "q_layernorm", "k_layernorm")
)
_CONVOLUTION = ("conv.conv", "conv.in_proj", "conv.out_proj")


def _metadata(config: Config) -> Metadata:
    _check(config)
    named = {
        **config,
        "intermediate_size": _feed_forward(config),
        "rms_norm_eps": config["norm_eps"],
    }
    return {
        **common_metadata(named),
        **_per_layer(config, config["num_hidden_layers"]),
        **rope_metadata(config),
        "vocab_size": config["vocab_size"],
        "shortconv.l_cache": config["conv_L_cache"],
    }


def _check(config: Config) -> None:
    """Raises ModelSettingUnsupported."""
    require(config, "conv_bias", (False,))
    require(config, "head_dim", (config["hidden_size"] // config["num_attention_heads"],))
    require(config, "block_dim", (config["hidden_size"],))
    require(rope(config), "rope_type", ("default",))


def _per_layer(config: Config, count: int) -> Metadata:
    heads = key_heads(config)
    return {
        "attention.head_count_kv": [
            heads if layer in _attending(config) else 0 for layer in range(count)
        ]
    }


def _attending(config: Config) -> list[int]:
    """The layers that have attention."""
    if (named := config.get("full_attn_idxs")) is not None:
        return list(named)
    kinds = config["layer_types"]
    return [layer for layer, kind in enumerate(kinds) if kind == "full_attention"]


def _feed_forward(config: Config) -> int:
    """mlx-lm and the original round it as Llama's first code did."""
    width = int(config.get("block_ff_dim") or config["intermediate_size"])
    if config["block_auto_adjust_ff_dim"]:
        width = int(2 * width / 3)
        if (factor := config["block_ffn_dim_multiplier"]) is not None:
            width = int(factor * width)
        step = config["block_multiple_of"]
        width = step * (-(-width // step))
    return width


def _fewest_layers(config: Config) -> int:
    """Up to the first of each kind: mlx-lm looks for its masks there."""
    attending = _attending(config)
    convolution = next(at for at in range(len(attending) + 1) if at not in attending)
    return max(attending[0], convolution) + 1


def _required(config: Config) -> set[str]:
    names = {"model.embed_tokens.weight", "model.embedding_norm.weight"}
    for layer in range(config["num_hidden_layers"]):
        own = _ATTENTION if layer in _attending(config) else _CONVOLUTION
        names |= {f"model.layers.{layer}.{part}.weight" for part in (*_SHARED, *own)}
    return names


LFM2 = Family(
    MODEL_ARCH.LFM2,
    _metadata,
    _required,
    pre_tokenizers={"llama-bpe": "lfm2"},
    tied_by_default=True,
    fewest_layers=_fewest_layers,
    per_layer=_per_layer,
)
