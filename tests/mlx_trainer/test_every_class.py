"""Every class of mlx-lm that can be made small: trained as our engine trains it on this device, it has the loss and
the gradients that mlx-lm's own code has. Classes come and go with mlx-lm, so what cannot be made is listed.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx_lm.models
import numpy as np
import pytest
from mlx.utils import tree_map

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.mlx_trainer.batches.examples import Example
from mlx_finetuning.mlx_trainer.gradient import backward, skipped_work
from mlx_finetuning.mlx_trainer.gradient.skipped_work import ActivationCache, LowerOutputs
from mlx_finetuning.mlx_trainer.model import adapters
from mlx_finetuning.mlx_trainer.parallel import workload
from support.model_classes import COMMON, examples, plain

OTHER_NAMES = {
    # As classes that come from other code call what COMMON has.
    **dict.fromkeys(("n_layer", "n_layers", "num_layers", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("n_embd", "d_model", "model_dim", "block_dim"), 64),
    **dict.fromkeys(("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps"), 1e-5),
    **dict.fromkeys(("n_positions", "n_ctx"), 512),
    **dict.fromkeys(("n_inner", "block_ff_dim"), 96),
    **dict.fromkeys(("attention_bias", "mlp_bias", "bias", "use_bias", "conv_bias"), False),
    "mlp_hidden_size": 192,
    "embedding_size": 300,
    "weight_tying": True,
    "kv_channels": 16,
}
ATTENTION = {
    "sliding_window": 6,
    "sliding_window_pattern": 2,
    "layer_types": ["full_attention"] * 4,
    "partial_rotary_factor": 0.5,
    "rotary_pct": 0.25,
    "rotary_dim": 8,
    "rotary_emb_base": 10000,
    "rope_scaling": None,
    "use_parallel_residual": True,
    "use_qkv_bias": True,
    "use_qk_norm": True,
    "multi_query": True,
    "query_pre_attn_scalar": 16,
    "max_window_layers": 4,
    # Compressed, linear, short convolutions.
    "kv_lora_rank": 16,
    "q_lora_rank": 32,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
    "full_attention_interval": 2,
    "conv_L_cache": 3,
    "block_multiple_of": 8,
    "block_ffn_dim_multiplier": 1.0,
    "block_auto_adjust_ff_dim": False,
    "full_attn_idxs": [1, 3],
}
SCALES = {
    **dict.fromkeys(("embedding_multiplier", "residual_multiplier", "logits_scaling"), 1.0),
    **dict.fromkeys(("scale_emb", "routed_scaling_factor"), 1.0),
    "attention_multiplier": 0.25,
    "logit_scale": 0.5,
    "scale_depth": 1.4,
    "dim_model_base": 32,
    "attn_logit_softcapping": 5.0,
    "final_logit_softcapping": 3.0,
}
EXPERTS = {
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_shared_experts", "n_shared_experts", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"), 1),
    **dict.fromkeys(("moe_layer_freq", "moe_layer_interval", "decoder_sparse_step"), 1),
    **dict.fromkeys(("num_experts_per_tok", "moe_k"), 2),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 48),
    **dict.fromkeys(("n_group", "topk_group"), 1),
    "moe_num_experts": 4,
    "use_expert_bias": False,
    "norm_topk_prob": True,
    "mlp_only_layers": [],
}
SETTINGS = COMMON | {"num_hidden_layers": 4} | OTHER_NAMES | ATTENTION | SCALES | EXPERTS
PARTICULAR: dict[str, dict[str, Any]] = {
    "apertus": {"post_norm": False, "qk_norm": True},
    "exaone4": {"sliding_window_pattern": "LLLG"},
    "gpt_oss": {"layer_types": ["sliding_attention", "full_attention"] * 2},
    "mellum": {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}},
    "olmo3": {"layer_types": ["sliding_attention", "full_attention"] * 2},
    "nemotron": {"hidden_act": "relu2"},
    "plamo": {"num_key_value_heads": 4, "n_shared_head": 2},
    "qwen": {"intermediate_size": 192},
}
NOT_MADE = {
    *"""
activations afm7 baichuan_m1 bailing_hybrid bailing_moe_linear base bitlinear_layers bitnet
cache dbrx deepseek_v2 exaone_moe gated_delta gemma3 gemma3n gemma4 gemma4_text glm_moe_dsa
granitemoehybrid hunyuan jamba kimi_k25 kimi_k3 kimi_linear kimi_vl lfm2-vl lille-130m llama4
llama4_text longcat_flash longcat_flash_ngram mamba mamba2 mimo_v2_flash minicpm3 minimax
minimax_m3_vl ministral3 mistral3 mistral4 mla muse_spark nemotron-nas nemotron_h olmo
olmo_hybrid openelm pipeline pixtral prism_hadamard_qwen35 qwen3_vl_moe rope_utils rwkv7
spark2_5 ssm step3p5 switch_layers
""".split()
}
"""Parts of other classes, models that see whose text part is another class here, and what wants a whole set
of settings of its own, Metal, or a package."""
WRONG_IN_MLX = {"deepseek_v41", "phi3small", "recurrent_gemma"}
"""Classes whose plain gradient fails: no derivative, a crash, no `super().__init__()`."""
NAMES = sorted(module.name for module in pkgutil.iter_modules(mlx_lm.models.__path__))


def small(kind: str, layers: int) -> nn.Module:
    """A small random model with an adapter in its upper `layers` that does something."""
    mx.random.seed(3)
    module = importlib.import_module(f"mlx_lm.models.{kind}")
    settings = {**SETTINGS, **PARTICULAR.get(kind, {}), "model_type": kind}
    model: nn.Module = module.Model(module.ModelArgs.from_dict(settings))
    model.set_dtype(mx.float32)
    adapters.attach(model, TrainConfig(rank=4, alpha=8.0, num_layers=layers))
    drawn = tree_map(
        lambda value: value + 0.1 * mx.random.normal(value.shape), model.trainable_parameters()
    )
    model.update(drawn)
    return model


def with_slots(outputs: LowerOutputs) -> list[Example]:
    return [replace(one, cache_slot=outputs.slot(one.tokens)) for one in examples()]


@pytest.mark.long
@pytest.mark.parametrize("layers", [-1, 2])
@pytest.mark.parametrize("kind", sorted({*NAMES} - NOT_MADE - WRONG_IN_MLX))
def test_training_has_the_gradients_of_mlx_lm(kind: str, layers: int, tmp_path: Path) -> None:
    model = small(kind, layers)
    expected_loss, expected = plain(model, examples())
    layout = workload.batch_layout(model, COMMON["vocab_size"], TrainConfig())
    passes, cache, outputs = 1, None, LowerOutputs()
    taken = with_slots(outputs)
    if layout.shares_sequence and skipped_work.lowest_trained(model):
        assert skipped_work.can_cache(model)
        block = skipped_work.lowest_trained(model) - 1
        file = outputs.open(tmp_path, block, COMMON["hidden_size"])
        passes, cache = 2, ActivationCache(model, file)
    for _ in range(passes):
        sums = backward.sums_of_examples(backward.gradient_of(model), layout, cache, taken, (1,))
        assert sums.loss.item() == pytest.approx(expected_loss, rel=1e-5)
        assert sums.gradients.keys() == expected.keys()
        for name, wanted in expected.items():
            atol = 2e-4 * np.abs(wanted).max()
            np.testing.assert_allclose(sums.gradients[name], wanted, atol=atol, err_msg=name)
        outputs.stored(one.tokens for one in taken)
        taken = with_slots(outputs)  # all that was computed is there now
