"""Qwen3's mixtures of experts: every block has a router and experts instead of one MLP.

llama.cpp knows no dense blocks among them and always divides the chosen experts' weights by their
sum, which is checked here.
"""

from __future__ import annotations

from gguf import MODEL_ARCH

from mlx_finetuning.quantizer.families.family import (
    ATTENTION,
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
from mlx_finetuning.quantizer.formats.experts import STACK

_BLOCK = (
    *ATTENTION,
    *NORMS,
    "self_attn.q_norm.weight",
    "self_attn.k_norm.weight",
    "mlp.gate.weight",
    *(f"mlp.{STACK}.{part}_proj.weight" for part in ("gate", "up", "down")),
)


def _metadata(config: Config) -> Metadata:
    require(config, "hidden_act", ("silu",))
    require(config, "attention_bias", (False,))
    require(config, "use_sliding_window", (False,))
    require(config, "norm_topk_prob", (True,))
    require(config, "decoder_sparse_step", (1,))
    require(config, "mlp_only_layers", ([],))
    # mlx-lm turns by the base alone, so that is what was trained.
    require(rope(config), "rope_type", ("default",))
    return {
        **common_metadata(config),
        **head_metadata(config),
        **rope_metadata(config),
        "expert_count": config["num_experts"],
        "expert_used_count": config["num_experts_per_tok"],
        "expert_feed_forward_length": config["moe_intermediate_size"],
    }


def _required(config: Config) -> set[str]:
    return required_weights(config, _BLOCK, QWEN3MOE.is_tied(config))


QWEN3MOE = Family(MODEL_ARCH.QWEN3MOE, _metadata, _required)
