"""Qwen3.5's text part: three of four layers are gated delta nets, whose state stands for attention.

llama.cpp shares a key head among value heads that lie apart, the folder among neighbours, so value
heads change places wherever they are rows or columns.
"""

from __future__ import annotations

import numpy as np
from gguf import MODEL_ARCH
from numpy.typing import NDArray

from mlx_finetuning.errors import ModelSettingUnsupported
from mlx_finetuning.quantizer.families.family import (
    AS_IT_IS,
    ATTENTION,
    MLP,
    NORMS,
    Config,
    Family,
    Form,
    Metadata,
    Order,
    common_metadata,
    head_metadata,
    head_size,
    plus_one,
    require,
    required_weights,
    rope,
)

INTERVAL = 4
"""Every fourth layer has attention."""
SECTIONS = [11, 11, 10]
"""Pairs of a head that turn with time, height and width: all alike in a text."""
_FULL = (*ATTENTION, "self_attn.q_norm.weight", "self_attn.k_norm.weight")
_LINEAR = tuple(
    f"linear_attn.{part}"
    for part in (
        *(f"in_proj_{name}.weight" for name in ("qkv", "z", "a", "b")),
        "out_proj.weight",
        "conv1d.weight",
        "norm.weight",
        "A_log",
        "dt_bias",
    )
)


def _metadata(config: Config) -> Metadata:
    _check(config)
    settings = {**config["rope_parameters"]}
    share = settings.get("partial_rotary_factor", 0.25)
    sections = [*settings.get("mrope_section", SECTIONS), 0, 0][:4]
    values = config["linear_num_value_heads"]
    return {
        **common_metadata(config),
        **head_metadata({"head_dim": head_size(config)}),
        "rope.freq_base": float(settings["rope_theta"]),
        "rope.dimension_count": int(head_size(config) * share),
        "rope.dimension_sections": sections,
        "full_attention_interval": INTERVAL,
        "ssm.conv_kernel": config["linear_conv_kernel_dim"],
        "ssm.state_size": config["linear_key_head_dim"],
        "ssm.group_count": config["linear_num_key_heads"],
        "ssm.time_step_rank": values,
        "ssm.inner_size": values * config["linear_value_head_dim"],
    }


def _check(config: Config) -> None:
    """Raises ModelSettingUnsupported."""
    require(config, "hidden_act", ("silu",))
    require(config, "attention_bias", (False,))
    require(config, "num_experts", (0,))
    require(config, "full_attention_interval", (INTERVAL,))
    require(config, "linear_value_head_dim", (config["linear_key_head_dim"],))
    require(rope(config), "rope_type", ("default",))
    expected = [
        "full_attention" if _has_attention(layer) else "linear_attention"
        for layer in range(config["num_hidden_layers"])
    ]
    if config.get("layer_types") not in (None, expected):
        raise ModelSettingUnsupported(
            setting="layer_types", value="ほかの並び", supported="4層ごとに1層が注意機構の並び"
        )


def _has_attention(layer: int) -> bool:
    return (layer + 1) % INTERVAL == 0


def _required(config: Config) -> set[str]:
    shared = required_weights(config, (*MLP, *NORMS), QWEN35.is_tied(config))
    return shared | {
        f"model.layers.{layer}.{part}"
        for layer in range(config["num_hidden_layers"])
        for part in (_FULL if _has_attention(layer) else _LINEAR)
    }


def _form(config: Config, source: str) -> Form:
    name = source.partition(".linear_attn.")[2]
    if not name:
        return _norm_form(source)
    size = config["linear_value_head_dim"]
    behind = 2 * config["linear_num_key_heads"] * config["linear_key_head_dim"]
    match name.removesuffix(".weight"):
        case "in_proj_qkv" | "conv1d":
            return Form(_after(behind, _value_heads(config, size)))
        case "in_proj_z":
            return Form(_value_heads(config, size))
        case "in_proj_a" | "in_proj_b" | "dt_bias":
            return Form(_value_heads(config, 1))
        case "A_log":
            return Form(_value_heads(config, 1), formula=_decay)
        case "out_proj":
            return Form(columns=_value_heads(config, size))
    return AS_IT_IS


def _norm_form(source: str) -> Form:
    """Hugging Face stores norms less one; what mlx-lm wrote, which its names tell, has them whole."""
    is_mlx = source.startswith("language_model.")
    return Form(formula=plus_one) if source.endswith("norm.weight") and not is_mlx else AS_IT_IS


def _value_heads(config: Config, size: int) -> Order:
    """Rows of `size` per value head: the first of every key head, then the second of every one."""
    keys, values = config["linear_num_key_heads"], config["linear_num_value_heads"]
    rows = np.arange(values * size).reshape(keys, values // keys, size)
    return rows.swapaxes(0, 1).reshape(-1)


def _after(kept: int, order: Order) -> Order:
    """The order behind `kept` rows that stay."""
    return np.concatenate([np.arange(kept), kept + order])


def _decay(values: NDArray[np.float32]) -> NDArray[np.float32]:
    # In float64, so that the result is the nearest float32 on every machine.
    return -np.exp(values.astype(np.float64)).astype(np.float32)


QWEN35 = Family(
    MODEL_ARCH.QWEN35,
    _metadata,
    _required,
    _form,
    renamed={"dt_bias": "dt_proj.bias"},
    unused=("model.visual.", "vision_tower.", "mtp."),
    fewest_layers=lambda config: INTERVAL,
)
