"""Small random models of every family, with their tokenizers, as ordinary Hugging Face folders."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import sentencepiece
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model, quantize_model
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_SPLIT = LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXT = [
    "株式会社みどり商店の営業時間は午前9時から午後6時です。定休日は日曜日です。",
    "Hello world, this is a small tokenizer. It's 2024-12-31 and 12345 things.",
    "def f(x):\n    return x + 1\n\n\nprint(f(3))  # コメント",
    "こんにちは。質問があります。返品はできますか？はい、7日以内なら可能です。",
]


QWEN35_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s"
)
SLASHED = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SHORT = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
GPT4O_SPLIT = CASED % (SHORT, SHORT) + r"|\p{N}{1,3}" + SLASHED
TEKKEN_SPLIT = CASED % ("", "") + r"|\p{N}" + SLASHED


def split_by(pattern: str) -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


PRE_TOKENIZERS = {
    "llama-bpe": (split_by(LLAMA3_SPLIT), True),
    "smaug-bpe": (split_by(LLAMA3_SPLIT), False),
    "qwen2": (split_by(QWEN2_SPLIT), False),
    "qwen35": (split_by(QWEN35_SPLIT), False),
    "gpt-4o": (split_by(GPT4O_SPLIT), False),
    "tekken": (split_by(TEKKEN_SPLIT), True),
    "smollm": (
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        ),
        False,
    ),
    "gpt-2": (pre_tokenizers.ByteLevel(add_prefix_space=False), False),
}


def write_tokenizer(folder: Path, pre: str = "llama-bpe", size: int = 600) -> Tokenizer:
    """A tokenizer trained on a few lines, with ChatML's special tokens first."""
    splitter, ignore_merges = PRE_TOKENIZERS[pre]
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[AddedToken(text, special=True) for text in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 4, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "chat_template": CHATML,
    }
    write_json(folder / "tokenizer_config.json", settings)
    return tokenizer


TURNS = (
    "{{ bos_token }}{% for message in messages %}{{ '[' + message['role'] + '] ' + "
    "message['content'] + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)


def write_sentencepiece(
    folder: Path,
    *,
    kind: str = "bpe",
    dummy_prefix: bool = True,
    train: dict[str, Any] | None = None,
    **settings: Any,
) -> None:
    """A `tokenizer.model` with byte fallback, trained on a few lines; no `tokenizer.json`.

    kind: `bpe` or `unigram`; dummy_prefix: a space is put before a text; train: other settings of
    SentencePiece's trainer.
    """
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    wanted = {
        "vocab_size": 480,
        "model_type": kind,
        "add_dummy_prefix": dummy_prefix,
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "character_coverage": 1.0,
        "split_digits": True,
        "allow_whitespace_only_pieces": True,
        "hard_vocab_limit": False,
        "minloglevel": 2,
        **(train or {}),
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT * 10), model_prefix=str(folder / "tokenizer"), **wanted
    )
    (folder / "tokenizer.vocab").unlink()
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "add_bos_token": True,
        "add_eos_token": False,
        "chat_template": TURNS,
        **settings,
    }
    write_json(folder / "tokenizer_config.json", config)


GEMMA4_ADDED = {
    **{"\n" * count: False for count in range(1, 32)},
    **dict.fromkeys(("<|turn>", "<turn|>", "<|tool_call>", '<|"|>'), True),
    "<unused0>": False,
    "<table>": False,
}
"""Tokens that Gemma 4 cuts out before anything else, and whether they are special."""


def write_gemma4_tokenizer(folder: Path) -> None:
    """A `tokenizer.json` as Gemma 4's: merged by rank, with added tokens in its vocabulary."""
    write_sentencepiece(folder, tokenizer_class="GemmaTokenizer")
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    (folder / "tokenizer.model").unlink()
    definition = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = definition["model"]["vocab"]
    vocabulary |= {entry["content"]: entry["id"] for entry in definition["added_tokens"]}
    for content, special in GEMMA4_ADDED.items():
        number = vocabulary.setdefault(content, len(vocabulary))
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        entry = {"id": number, "content": content, **flags, "special": special}
        definition["added_tokens"].append(entry)
    write_json(folder / "tokenizer.json", definition)
    edit_json(folder / "tokenizer_config.json", eos_token="<turn|>")


LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
GEMMA = {
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 64,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "tie_word_embeddings": None,
}
GRANITE = {
    "head_dim": None,
    "attention_bias": False,
    "mlp_bias": False,
    "attention_multiplier": 0.2,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.4,
    "logits_scaling": 2.0,
}
GEMMA4: dict[str, Any] = {
    "tie_word_embeddings": True,
    "hidden_act": None,
    "hidden_activation": "gelu_pytorch_tanh",
    "num_hidden_layers": 6,
    "global_head_dim": 128,
    "sliding_window": 64,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
    "final_logit_softcapping": 30.0,
    "rope_theta": None,
    "rope_parameters": {
        "full_attention": {
            "rope_type": "proportional",
            "rope_theta": 1000000.0,
            "partial_rotary_factor": 0.25,
        },
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    },
}
GEMMA4_DENSE: dict[str, Any] = {
    **GEMMA4,
    "num_key_value_heads": 2,
    "num_global_key_value_heads": 1,
    "num_kv_shared_layers": 0,
    "use_double_wide_mlp": False,
    "hidden_size_per_layer_input": 0,
    "attention_k_eq_v": True,
}
LONG_FACTORS = np.linspace(1.1, 6.0, 32).round(3).tolist()
FAMILIES: dict[str, dict[str, Any]] = {
    "llama 2": {**LLAMA, "tie_word_embeddings": False, "num_key_value_heads": 4},
    "llama 3": {**LLAMA, "rope_theta": 500000.0, "rope_scaling": LLAMA3_ROPE},
    "linear rope": {**LLAMA, "rope_scaling": {"type": "linear", "factor": 2.0}},
    "mistral": {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "tie_word_embeddings": False,
        "sliding_window": 4096,
    },
    "qwen2": {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "head_dim": None,
        "use_sliding_window": False,
        "rope_theta": 1000000.0,
    },
    "qwen3": {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "head_dim": 96,
        "rope_theta": 1000000.0,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 128,
        },
    },
    "gemma2": {
        **GEMMA,
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "sliding_window": 4096,
    },
    "gemma3": {
        **GEMMA,
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "num_hidden_layers": 7,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "sliding_window": 64,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "phi3": {
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        "head_dim": None,
        "tie_word_embeddings": False,
        "original_max_position_embeddings": 128,
        "max_position_embeddings": 2048,
        "rope_scaling": {
            "type": "longrope",
            "short_factor": [1.0] * 32,
            "long_factor": LONG_FACTORS,
        },
    },
    "phi4": {
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        "head_dim": None,
        "tie_word_embeddings": False,
        "sliding_window": None,
        "original_max_position_embeddings": 1024,
    },
    "gemma4": {
        "architectures": ["Gemma4ForConditionalGeneration"],
        "model_type": "gemma4",
        "vision_config": {"hidden_size": 64},
        **GEMMA4,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "num_global_key_value_heads": None,
        "num_kv_shared_layers": 3,
        "use_double_wide_mlp": True,
        "hidden_size_per_layer_input": 32,
        "vocab_size_per_layer_input": 608,
        "enable_moe_block": False,
        "attention_k_eq_v": False,
        "use_bidirectional_attention": "vision",
    },
    "gemma4 dense": {
        "architectures": ["Gemma4ForCausalLM"],
        "model_type": "gemma4_text",
        **GEMMA4_DENSE,
    },
    "lfm2": {
        "architectures": ["Lfm2ForCausalLM"],
        "model_type": "lfm2",
        "num_hidden_layers": 4,
        "head_dim": None,
        "intermediate_size": None,
        "rms_norm_eps": None,
        "norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "layer_types": ["conv", "full_attention"] * 2,
        "conv_L_cache": 3,
        "conv_bias": False,
        "block_dim": 256,
        "block_ff_dim": 768,
        "block_multiple_of": 256,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": True,
    },
    "gemma4 unified": {
        "architectures": ["Gemma4UnifiedForConditionalGeneration"],
        "model_type": "gemma4_unified",
        "vision_config": {"mm_embed_dim": 64},
        **GEMMA4_DENSE,
        "use_bidirectional_attention": "vision",
    },
    "gemma3 with eyes": {
        **GEMMA,
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "vision_config": {"hidden_size": 64},
        "hidden_act": None,
        "num_hidden_layers": 7,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "sliding_window": 64,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "ministral3": {
        "architectures": ["Mistral3ForConditionalGeneration"],
        "model_type": "mistral3",
        "vision_config": {"hidden_size": 64},
        "rope_theta": None,
        "rope_parameters": {
            "rope_type": "yarn",
            "type": "yarn",
            "rope_theta": 1000000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 128,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "llama_4_scaling_beta": 0.1,
        },
        "sliding_window": None,
    },
    "granite": {
        **GRANITE,
        "architectures": ["GraniteForCausalLM"],
        "model_type": "granite",
    },
    "granite4": {
        **GRANITE,
        "architectures": ["GraniteMoeHybridForCausalLM"],
        "model_type": "granitemoehybrid",
        "layer_types": ["attention"] * 3,
        "shared_intermediate_size": 512,
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
        "position_embedding_type": "rope",
        "mamba_n_heads": 8,
        "mamba_n_groups": 1,
        "mamba_d_head": 64,
        "mamba_d_state": 16,
        "mamba_d_conv": 4,
        "mamba_expand": 2,
    },
    "smollm3": {
        "architectures": ["SmolLM3ForCausalLM"],
        "model_type": "smollm3",
        "head_dim": None,
        "num_hidden_layers": 5,
        "rope_theta": 2000000.0,
        "no_rope_layers": [1, 1, 1, 0, 1],
        "no_rope_layer_interval": 4,
        "use_sliding_window": False,
    },
    "qwen3.5": {
        "architectures": ["Qwen3_5ForConditionalGeneration"],
        "model_type": "qwen3_5",
        "vision_config": {"hidden_size": 64},
        "num_hidden_layers": 5,
        "rope_theta": None,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000000,
            "partial_rotary_factor": 0.25,
            "mrope_section": [3, 3, 2],
            "mrope_interleaved": True,
        },
        "full_attention_interval": 4,
        "attn_output_gate": True,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 6,
        "linear_key_head_dim": 32,
        "linear_value_head_dim": 32,
        "linear_conv_kernel_dim": 4,
    },
}
DISTINCT = ("llama 3", "qwen2", "gemma3", "phi3", "gemma4", "lfm2", "granite4", "qwen3.5")
"""A family of each way to build layers: rows in another order, biases, norms less one, joined matrices,
shared keys, convolutions, joined gates, layers without attention. The others vary their settings."""
"""Settings of the real models, with small sizes."""


BESIDE = {
    "qwen3_5": ("model.visual.x", "mtp.fc"),
    "gemma4": ("model.vision_tower.x", "model.embed_vision.x"),
    "gemma4_unified": ("model.vision_embedder.x", "model.embed_vision.x"),
    "gemma3": ("vision_tower.x", "multi_modal_projector.x"),
    "mistral3": ("model.vision_tower.x", "model.multi_modal_projector.x"),
}
"""Weights that do not belong to the text part."""


def sees(config: dict[str, Any]) -> bool:
    """Whether the model is a text part within one that sees too."""
    return "vision_config" in config


def stored_name(config: dict[str, Any], name: str) -> str:
    """A weight's name in the model's folder."""
    if config["model_type"] == "gemma3":
        return f"language_model.{name}"  # as on the hub; transformers 5 saves it as the others
    return name.replace("model.", "model.language_model.", 1) if sees(config) else name


def mlx_name(config: dict[str, Any], name: str) -> str:
    """A weight's name in mlx-lm's class and in adapters."""
    return f"language_model.{name}" if sees(config) else name


def write_model(
    folder: Path,
    family: str | None = None,
    *,
    dtype: mx.Dtype = mx.float16,
    seed: int = 0,
    **changes: Any,
) -> dict[str, Any]:
    """A random model with its tokenizer; returns its settings. A setting of None is left out.

    The settings of a model that sees lie in its folder as those of its text part. Each is made once a
    process, and copied.
    """
    wanted = {
        **LLAMA,
        "hidden_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "intermediate_size": 512,
        "hidden_act": "silu",
        "vocab_size": 608,
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        **(FAMILIES[family] if family else {}),
        **changes,
    }
    config = {key: value for key, value in wanted.items() if value is not None}
    pre = "qwen35" if family == "qwen3.5" else "llama-bpe"
    made = _made(json.dumps(config), pre, dtype, seed)
    shutil.copytree(made, folder, copy_function=shutil.copyfile, dirs_exist_ok=True)
    return config


@functools.cache
def _made(settings: str, pre: str, dtype: mx.Dtype, seed: int) -> Path:
    config = json.loads(settings)
    folder = Path(tempfile.mkdtemp(dir=_folder().name))
    write_tokenizer(folder, pre)
    write_json(folder / "config.json", stored_config(config))
    values = _joined(config, random_weights(config, seed))
    weights = {
        stored_name(config, name): mx.array(value).astype(dtype) for name, value in values.items()
    }
    if sees(config):
        weights |= {f"{name}.weight": mx.ones((3, 5)) for name in BESIDE[config["model_type"]]}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "pt"})
    return folder


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """It goes with the process."""
    return tempfile.TemporaryDirectory()


def _joined(config: dict[str, Any], values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Granite 4 stores gates and inputs of its MLPs as one matrix."""
    if config["model_type"] != "granitemoehybrid":
        return values
    found = dict(values)
    for layer in range(config["num_hidden_layers"]):
        mlp, shared = f"model.layers.{layer}.mlp", f"model.layers.{layer}.shared_mlp"
        both = [found.pop(f"{mlp}.{part}_proj.weight") for part in ("gate", "up")]
        found[f"{shared}.input_linear.weight"] = np.concatenate(both)
        found[f"{shared}.output_linear.weight"] = found.pop(f"{mlp}.down_proj.weight")
    return found


def stored_config(config: dict[str, Any]) -> dict[str, Any]:
    if not sees(config):
        return config
    outside = {key: config[key] for key in ("architectures", "model_type", "vision_config")}
    inside = {key: value for key, value in config.items() if key not in outside}
    kinds = {"mistral3": "ministral3"}
    text = {**inside, "model_type": kinds.get(config["model_type"], f"{config['model_type']}_text")}
    return {**outside, "vocab_size": config["vocab_size"], "text_config": text}


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    kind, hidden = config["model_type"], config["hidden_size"]
    result: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], hidden),
        f"model.{'embedding_' if kind == 'lfm2' else ''}norm.weight": (hidden,),
    }
    if not config.get("tie_word_embeddings", kind.startswith("gemma")):
        result["lm_head.weight"] = (config["vocab_size"], hidden)
    if inputs := config.get("hidden_size_per_layer_input"):
        wide = config["num_hidden_layers"] * inputs
        result["model.embed_tokens_per_layer.weight"] = (config["vocab_size"], wide)
        result["model.per_layer_model_projection.weight"] = (wide, hidden)
        result["model.per_layer_projection_norm.weight"] = (inputs,)
    for layer in range(config["num_hidden_layers"]):
        block = _block(config, layer)
        result |= {f"model.layers.{layer}.{name}": size for name, size in block.items()}
    return result


def _block(config: dict[str, Any], layer: int = 0) -> dict[str, tuple[int, ...]]:
    if config["model_type"].startswith("qwen3_5"):
        return _qwen35_block(config, layer)
    if config["model_type"].startswith("gemma4"):
        return _gemma4_block(config, layer)
    if config["model_type"] == "lfm2":
        return _lfm2_block(config, layer)
    kind, hidden, inner = config["model_type"], config["hidden_size"], config["intermediate_size"]
    size = config.get("head_dim", hidden // config["num_attention_heads"])
    queries, keys = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    block: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        "self_attn.o_proj.weight": (hidden, queries),
        "mlp.down_proj.weight": (hidden, inner),
    }
    if kind == "phi3":
        block["self_attn.qkv_proj.weight"] = (queries + 2 * keys, hidden)
        block["mlp.gate_up_proj.weight"] = (2 * inner, hidden)
        return block
    for name, rows in (("q", queries), ("k", keys), ("v", keys)):
        block[f"self_attn.{name}_proj.weight"] = (rows, hidden)
        if kind == "qwen2":
            block[f"self_attn.{name}_proj.bias"] = (rows,)
    block |= {"mlp.gate_proj.weight": (inner, hidden), "mlp.up_proj.weight": (inner, hidden)}
    if kind.startswith("gemma"):
        block["pre_feedforward_layernorm.weight"] = (hidden,)
        block["post_feedforward_layernorm.weight"] = (hidden,)
    if kind in ("qwen3", "gemma3_text", "gemma3"):
        block |= {"self_attn.q_norm.weight": (size,), "self_attn.k_norm.weight": (size,)}
    return block


def _lfm2_block(config: dict[str, Any], layer: int) -> dict[str, tuple[int, ...]]:
    hidden, inner = config["hidden_size"], 512
    block: dict[str, tuple[int, ...]] = {
        "operator_norm.weight": (hidden,),
        "ffn_norm.weight": (hidden,),
        "feed_forward.w1.weight": (inner, hidden),
        "feed_forward.w2.weight": (hidden, inner),
        "feed_forward.w3.weight": (inner, hidden),
    }
    if config["layer_types"][layer] == "conv":
        return block | {
            "conv.conv.weight": (hidden, 1, config["conv_L_cache"]),
            "conv.in_proj.weight": (3 * hidden, hidden),
            "conv.out_proj.weight": (hidden, hidden),
        }
    size = hidden // config["num_attention_heads"]
    keys = size * config["num_key_value_heads"]
    return block | {
        "self_attn.q_proj.weight": (hidden, hidden),
        "self_attn.k_proj.weight": (keys, hidden),
        "self_attn.v_proj.weight": (keys, hidden),
        "self_attn.out_proj.weight": (hidden, hidden),
        "self_attn.q_layernorm.weight": (size,),
        "self_attn.k_layernorm.weight": (size,),
    }


def _qwen35_block(config: dict[str, Any], layer: int) -> dict[str, tuple[int, ...]]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    block: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
    }
    if (layer + 1) % 4 == 0:
        size, heads = config["head_dim"], config["num_attention_heads"]
        keys = size * config["num_key_value_heads"]
        return block | {
            "self_attn.q_proj.weight": (2 * size * heads, hidden),
            "self_attn.k_proj.weight": (keys, hidden),
            "self_attn.v_proj.weight": (keys, hidden),
            "self_attn.o_proj.weight": (hidden, size * heads),
            "self_attn.q_norm.weight": (size,),
            "self_attn.k_norm.weight": (size,),
        }
    heads = config["linear_num_value_heads"]
    keys = config["linear_num_key_heads"] * config["linear_key_head_dim"]
    values = heads * config["linear_value_head_dim"]
    return block | {
        "linear_attn.in_proj_qkv.weight": (2 * keys + values, hidden),
        "linear_attn.in_proj_z.weight": (values, hidden),
        "linear_attn.in_proj_b.weight": (heads, hidden),
        "linear_attn.in_proj_a.weight": (heads, hidden),
        "linear_attn.conv1d.weight": (2 * keys + values, 1, config["linear_conv_kernel_dim"]),
        "linear_attn.norm.weight": (config["linear_value_head_dim"],),
        "linear_attn.out_proj.weight": (hidden, values),
        "linear_attn.A_log": (heads,),
        "linear_attn.dt_bias": (heads,),
    }


def _gemma4_block(config: dict[str, Any], layer: int) -> dict[str, tuple[int, ...]]:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    full = config["layer_types"][layer] == "full_attention"
    own = layer < config["num_hidden_layers"] - config["num_kv_shared_layers"]
    wide = config["use_double_wide_mlp"] and not own
    inner = config["intermediate_size"] * (2 if wide else 1)
    size = config["global_head_dim"] if full else config["head_dim"]
    like_keys = config["attention_k_eq_v"] and full
    keys = size * config["num_global_key_value_heads" if like_keys else "num_key_value_heads"]
    block: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj.weight": (size * heads, hidden),
        "self_attn.q_norm.weight": (size,),
        "self_attn.o_proj.weight": (hidden, size * heads),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        "pre_feedforward_layernorm.weight": (hidden,),
        "post_feedforward_layernorm.weight": (hidden,),
        "layer_scalar": (1,),
    }
    if own:
        block |= {"self_attn.k_proj.weight": (keys, hidden), "self_attn.k_norm.weight": (size,)}
    if own and not like_keys:
        block["self_attn.v_proj.weight"] = (keys, hidden)
    if inputs := config["hidden_size_per_layer_input"]:
        block |= {
            "per_layer_input_gate.weight": (inputs, hidden),
            "per_layer_projection.weight": (hidden, inputs),
            "post_per_layer_input_norm.weight": (hidden,),
        }
    return block


def random_weights(config: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Norms near what means 1; matrices large enough that attention looks somewhere."""
    random = np.random.default_rng(seed)
    less_one = config["model_type"] in ("gemma2", "gemma3_text", "gemma3", "qwen3_5")
    is_gemma4 = config["model_type"].startswith("gemma4")

    def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
        noise = random.standard_normal(shape)
        if name.endswith("layer_scalar"):
            return 0.8 + 0.1 * noise
        if is_gemma4 and name.endswith(("q_norm.weight", "k_norm.weight")):
            # Scores are not divided by anything: the norms keep them small.
            return 0.35 + 0.05 * noise
        if "norm" in name:
            return (0.0 if less_one and "linear_attn" not in name else 1.0) + 0.1 * noise
        return 0.3 * noise if len(shape) == 1 else 1.5 * noise / np.sqrt(shape[-1])

    return {name: values(name, shape).astype(np.float32) for name, shape in shapes(config).items()}


def is_linear(name: str) -> bool:
    endings = ("_proj.weight", "per_layer_input_gate.weight", "per_layer_projection.weight")
    mlp_of_lfm2 = (".w1.weight", ".w2.weight", ".w3.weight")
    return name.endswith((*endings, *mlp_of_lfm2)) or ".in_proj_" in name


def linear_layers(config: dict[str, Any]) -> set[str]:
    """Within a block, all blocks together."""
    blocks = (_block(config, layer) for layer in range(config["num_hidden_layers"]))
    return {name for block in blocks for name in block if is_linear(name)}


def write_adapter(
    folder: Path, config: dict[str, Any], *, rank: int = 4, seed: int = 1, kind: str = "lora"
) -> Path:
    """A random adapter (LoRA or DoRA) of all linear layers, in mlx-lm's layout."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes(config).items():
        if is_linear(name):
            module = mlx_name(config, name).removesuffix(".weight")
            tensors[f"{module}.lora_a"] = mx.array(random.standard_normal((shape[1], rank)) * 0.1)
            if kind == "dora":
                tensors[f"{module}.m"] = mx.array(1.5 + random.random(shape[0]))
            tensors[f"{module}.lora_b"] = mx.array(random.standard_normal((rank, shape[0])) * 0.1)
    tensors = {name: value.astype(mx.float32) for name, value in tensors.items()}
    mx.save_safetensors(str(folder / "adapters.safetensors"), tensors)
    keys = sorted({name.removesuffix(".weight") for name in linear_layers(config)})
    settings = {"rank": rank, "scale": 2.0, "dropout": 0.0, "keys": keys}
    record = {"fine_tune_type": kind, "num_layers": -1, "lora_parameters": settings}
    write_json(folder / "adapter_config.json", record)
    return folder


def write_quantized(source: Path, target: Path, bits: int = 4, group_size: int = 64) -> None:
    """A copy of a model as `mlx_lm convert -q` writes it."""
    network, config = load_model(source)
    network.set_dtype(mx.float32)
    network, config = quantize_model(network, config, group_size=group_size, bits=bits)
    shutil.copytree(source, target)
    weights = dict(tree_flatten(network.parameters()))
    mx.save_safetensors(str(target / "model.safetensors"), weights, {"format": "mlx"})
    write_json(target / "config.json", config)


def edit_json(path: Path, **changes: Any) -> None:
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **changes})


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
