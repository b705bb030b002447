"""Qwen2, Qwen3, and Qwen3's mixtures of experts."""

from __future__ import annotations

from gguf import MODEL_ARCH

from mlx_finetuning.quantizer.families import family
from mlx_finetuning.quantizer.families.family import Config, Family, Metadata
from mlx_finetuning.quantizer.formats.experts import STACK

HEAD_NORMS = ("self_attn.q_norm.weight", "self_attn.k_norm.weight")


class Qwen2(Family):
    """Llama's blocks, with biases of queries, keys and values."""

    arch = MODEL_ARCH.QWEN2
    block = (*family.LLAMA_BLOCK, *(f"self_attn.{part}_proj.bias" for part in "qkv"))

    def metadata(self, config: Config) -> Metadata:
        """Raises ModelSettingUnsupported where a window slides."""
        family.require(config, "hidden_act", ("silu",))
        family.require(config, "use_sliding_window", (False,))
        family.require(family.rope(config), "rope_type", ("default", "linear", "yarn"))
        return {
            **family.common_metadata(config),
            **family.head_metadata(config),
            **family.rope_metadata(config),
        }

    def is_70b(self, config: Config) -> bool:
        """By layers alone, as llama.cpp does."""
        return bool(config["num_hidden_layers"] == 80)


class Qwen3(Qwen2):
    """Norms of queries and keys instead of biases."""

    arch = MODEL_ARCH.QWEN3
    block = (*family.LLAMA_BLOCK, *HEAD_NORMS)

    def is_70b(self, config: Config) -> bool:
        """llama.cpp looks at Qwen2 only."""
        return False


class Qwen3Moe(Family):
    """Every block has a router and experts instead of one MLP.

    llama.cpp knows no dense blocks among them and always divides the chosen experts' weights by
    their sum, which is checked here.
    """

    arch = MODEL_ARCH.QWEN3MOE
    block = (
        *family.ATTENTION,
        *family.NORMS,
        *HEAD_NORMS,
        "mlp.gate.weight",
        *(f"mlp.{STACK}.{part}_proj.weight" for part in ("gate", "up", "down")),
    )

    def metadata(self, config: Config) -> Metadata:
        """Raises ModelSettingUnsupported for dense blocks and for weights that are not normalised."""
        family.require(config, "hidden_act", ("silu",))
        family.require(config, "attention_bias", (False,))
        family.require(config, "use_sliding_window", (False,))
        family.require(config, "norm_topk_prob", (True,))
        family.require(config, "decoder_sparse_step", (1,))
        family.require(config, "mlp_only_layers", ([],))
        # mlx-lm turns by the base alone, so that is what was trained.
        family.require(family.rope(config), "rope_type", ("default",))
        return {
            **family.common_metadata(config),
            **family.head_metadata(config),
            **family.rope_metadata(config),
            "expert_count": config["num_experts"],
            "expert_used_count": config["num_experts_per_tok"],
            "expert_feed_forward_length": config["moe_intermediate_size"],
        }
