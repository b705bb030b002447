"""Phi-3, Phi-3.5 and Phi-4 mini: joined projections, and factors of rotation for long texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from gguf import MODEL_ARCH

from mlx_finetuning.quantizer.families import family
from mlx_finetuning.quantizer.families.family import Config, Family, Metadata, Tensors

LONGROPE = ("longrope", "su")
"""https://arxiv.org/abs/2402.13753, by its two names."""


class Phi3(Family):
    """Queries, keys and values in one weight, gate and up in another."""

    arch = MODEL_ARCH.PHI3
    block = (
        "self_attn.qkv_proj.weight",
        "self_attn.o_proj.weight",
        "mlp.gate_up_proj.weight",
        "mlp.down_proj.weight",
        *family.NORMS,
    )
    pre_tokenizers: ClassVar[Mapping[str, str]] = {"smaug-bpe": "dbrx"}

    def metadata(self, config: Config) -> Metadata:
        """Heads may be rotated in part; factors for long texts go with a factor of attention."""
        family.require(config, "hidden_act", ("silu",))
        settings = family.rope(config)
        family.require(settings, "rope_type", ("default", *LONGROPE))
        share = config.get("partial_rotary_factor") or settings.get("partial_rotary_factor", 1.0)
        heads = int(config["num_attention_heads"])
        original = original_context(config)
        metadata: Metadata = {
            **family.common_metadata(config),
            "rope.scaling.original_context_length": original,
            "rope.dimension_count": int(share * config["hidden_size"]) // heads,
            "rope.freq_base": float(settings["rope_theta"]),
        }
        if settings["rope_type"] in LONGROPE:
            scale = config["max_position_embeddings"] / original
            factor = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
            metadata["rope.scaling.attn_factor"] = factor
        # Zero tells llama.cpp Phi-4 from the others.
        metadata["attention.sliding_window"] = config.get("sliding_window") or 0
        return metadata

    def computed_tensors(self, config: Config) -> Tensors:
        """The factors for long and short texts, [rotated columns / 2] each."""
        settings = family.rope(config)
        if settings["rope_type"] not in LONGROPE:
            return {}
        return {
            f"rope_factors_{kind}.weight": np.array(settings[f"{kind}_factor"], np.float32)
            for kind in ("long", "short")
        }

    def context_for(self, config: Config, longest: int) -> int:
        """mlx-lm always rotates by the factors for long texts; llama.cpp chooses by the context."""
        if family.rope(config)["rope_type"] not in LONGROPE:
            return longest
        return max(longest, original_context(config) + 1)


def original_context(config: Config) -> int:
    """Tokens of context before it was extended."""
    stated = config.get("original_max_position_embeddings")
    return int(stated or family.rope(config).get("original_max_position_embeddings", 4096))
