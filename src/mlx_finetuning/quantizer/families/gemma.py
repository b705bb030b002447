"""Gemma 2 and 3. llama.cpp infers the attention's scale from the number of layers, which is checked."""

from __future__ import annotations

from gguf import MODEL_ARCH

from mlx_finetuning.language import _
from mlx_finetuning.quantizer.families import family
from mlx_finetuning.quantizer.families.family import Config, Family, Form, Metadata
from mlx_finetuning.utils.model_settings import OUTSIDE_TEXT

GEMMA3_PATTERN = 6
"""Every sixth layer attends to everything; llama.cpp knows it, the file does not say it."""


class Gemma2(Family):
    """Four norms per block; logits are capped."""

    arch = MODEL_ARCH.GEMMA2
    block = (
        *family.ATTENTION,
        *family.MLP,
        *family.NORMS,
        "pre_feedforward_layernorm.weight",
        "post_feedforward_layernorm.weight",
    )
    tied_by_default = True
    layers_of_27b = 46

    def metadata(self, config: Config) -> Metadata:
        """llama.cpp knows no other base of rotation, and no head of its own."""
        self.require_inferred_scale(config)
        family.require(config, "tie_word_embeddings", (True,))
        family.require(family.rope(config), "rope_theta", (10000, 10000.0))
        family.require(family.rope(config), "rope_type", ("default",))
        return {
            **family.common_metadata(config),
            **family.head_metadata({"head_dim": family.head_size(config)}),
            "attn_logit_softcapping": float(config["attn_logit_softcapping"]),
            "final_logit_softcapping": float(config["final_logit_softcapping"]),
            "attention.sliding_window": config["sliding_window"],
        }

    def form(self, config: Config, source: str) -> Form:
        """Norms are stored less one."""
        return Form(formula=family.plus_one) if source.endswith("norm.weight") else family.AS_IT_IS

    def require_inferred_scale(self, config: Config) -> None:
        """That llama.cpp scales attention as the model does. Raises ModelSettingUnsupported."""
        family.require(config, "hidden_activation", family.GELU)
        scale = family.head_size(config)
        if config["num_hidden_layers"] == self.layers_of_27b:
            scale = config["hidden_size"] // config["num_attention_heads"]
        family.require(config, "query_pre_attn_scalar", (scale,))


class Gemma3(Gemma2):
    """Norms of queries and keys instead of caps; two bases of rotation."""

    arch = MODEL_ARCH.GEMMA3
    block = (*Gemma2.block, "self_attn.q_norm.weight", "self_attn.k_norm.weight")
    unused = OUTSIDE_TEXT
    layers_of_27b = 62

    def metadata(self, config: Config) -> Metadata:
        """Layers that attend to everything have a rotation of their own."""
        self.require_inferred_scale(config)
        for setting in ("attn_logit_softcapping", "final_logit_softcapping"):
            family.require(config, setting, ())
        family.require(config, "sliding_window_pattern", (GEMMA3_PATTERN,))
        family.require(config, "use_bidirectional_attention", (False,))
        pattern = [
            "sliding_attention" if (layer + 1) % GEMMA3_PATTERN else "full_attention"
            for layer in range(config["num_hidden_layers"])
        ]
        family.require_layer_types(config, pattern, _("6層ごとに1層が全体を見る並び"))
        both = config.get("rope_parameters") or {}
        full = {**config, "rope_parameters": both.get("full_attention", both)}
        family.require(family.rope(full), "rope_type", ("default", "linear", "yarn"))
        local_base = both.get("sliding_attention", {}).get("rope_theta")
        return {
            **family.common_metadata(config),
            **family.head_metadata({"head_dim": family.head_size(config)}),
            **family.rope_metadata(full),
            "rope.freq_base_swa": float(local_base or config.get("rope_local_base_freq", 10000.0)),
            "attention.sliding_window": config["sliding_window"],
        }

    def fewest_layers(self, config: Config) -> int:
        """Up to the first that attends to everything."""
        return GEMMA3_PATTERN
