"""Qwen3.5's text part: three of four layers are gated delta nets, whose state stands for attention.

llama.cpp shares a key head among value heads that lie apart, the folder among neighbours, so value
heads change places wherever they are rows or columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from gguf import MODEL_ARCH
from numpy.typing import NDArray

from mlx_finetuning.language import _
from mlx_finetuning.quantizer.families import family
from mlx_finetuning.quantizer.families.family import Config, Family, Form, Metadata, Order

INTERVAL = 4
"""Every fourth layer has attention."""
SECTIONS = [11, 11, 10]
"""Pairs of a head that turn with time, height and width: all alike in a text."""
_FULL = (*family.ATTENTION, "self_attn.q_norm.weight", "self_attn.k_norm.weight")
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


class Qwen35(Family):
    """The text part of Qwen3.5, without experts."""

    arch = MODEL_ARCH.QWEN35
    renamed: ClassVar[Mapping[str, str]] = {"dt_bias": "dt_proj.bias"}
    unused = ("model.visual.", "vision_tower.", "mtp.")

    def metadata(self, config: Config) -> Metadata:
        """Of attention and of gated delta nets, which llama.cpp counts among state space models."""
        family.require(config, "hidden_act", ("silu",))
        family.require(config, "attention_bias", (False,))
        family.require(config, "num_experts", (0,))
        family.require(config, "full_attention_interval", (INTERVAL,))
        family.require(config, "linear_value_head_dim", (config["linear_key_head_dim"],))
        family.require(family.rope(config), "rope_type", ("default",))
        pattern = [
            "full_attention" if has_attention(layer) else "linear_attention"
            for layer in range(config["num_hidden_layers"])
        ]
        family.require_layer_types(config, pattern, _("4層ごとに1層が注意機構の並び"))
        rotation = {**config["rope_parameters"]}
        share = rotation.get("partial_rotary_factor", 0.25)
        values = config["linear_num_value_heads"]
        return {
            **family.common_metadata(config),
            **family.head_metadata({"head_dim": family.head_size(config)}),
            "rope.freq_base": float(rotation["rope_theta"]),
            "rope.dimension_count": int(family.head_size(config) * share),
            "rope.dimension_sections": [*rotation.get("mrope_section", SECTIONS), 0, 0][:4],
            "full_attention_interval": INTERVAL,
            "ssm.conv_kernel": config["linear_conv_kernel_dim"],
            "ssm.state_size": config["linear_key_head_dim"],
            "ssm.group_count": config["linear_num_key_heads"],
            "ssm.time_step_rank": values,
            "ssm.inner_size": values * config["linear_value_head_dim"],
        }

    def required(self, config: Config) -> set[str]:
        """Attention or a gated delta net in every layer."""
        shared = family.required_weights(config, (*family.MLP, *family.NORMS), self.is_tied(config))
        return shared | {
            f"model.layers.{layer}.{part}"
            for layer in range(config["num_hidden_layers"])
            for part in (_FULL if has_attention(layer) else _LINEAR)
        }

    def form(self, config: Config, source: str) -> Form:
        """Value heads in the order of llama.cpp, wherever they are rows or columns."""
        name = source.partition(".linear_attn.")[2]
        if not name:
            # Hugging Face stores norms less one; what mlx-lm wrote, which its names tell, has them whole.
            is_mlx = source.startswith("language_model.")
            is_norm = source.endswith("norm.weight")
            return Form(formula=family.plus_one) if is_norm and not is_mlx else family.AS_IT_IS
        size = config["linear_value_head_dim"]
        # Queries and keys lie before the values, and stay in their order.
        before = 2 * config["linear_num_key_heads"] * config["linear_key_head_dim"]
        match name.removesuffix(".weight"):
            case "in_proj_qkv" | "conv1d":
                values = before + value_head_order(config, size)
                return Form(np.concatenate([np.arange(before), values]))
            case "in_proj_z":
                return Form(value_head_order(config, size))
            case "in_proj_a" | "in_proj_b" | "dt_bias":
                return Form(value_head_order(config, 1))
            case "A_log":
                return Form(value_head_order(config, 1), formula=decay)
            case "out_proj":
                return Form(columns=value_head_order(config, size))
        return family.AS_IT_IS

    def fewest_layers(self, config: Config) -> int:
        """Up to the first with attention."""
        return INTERVAL


def has_attention(layer: int) -> bool:
    """Whether it is no gated delta net."""
    return (layer + 1) % INTERVAL == 0


def value_head_order(config: Config, size: int) -> Order:
    """Rows of `size` per value head: the first of every key head, then the second of every one."""
    keys, values = config["linear_num_key_heads"], config["linear_num_value_heads"]
    rows = np.arange(values * size).reshape(keys, values // keys, size)
    return rows.swapaxes(0, 1).reshape(-1)


def decay(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """-exp(A_log): in float64, so that the result is the nearest float32 on every machine."""
    return -np.exp(values.astype(np.float64)).astype(np.float32)
