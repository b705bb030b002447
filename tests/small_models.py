"""Small random Llama models and byte-level BPE tokenizers, as ordinary Hugging Face folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

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


def write_model(
    folder: Path, *, dtype: mx.Dtype = mx.float16, seed: int = 0, **changes: Any
) -> dict[str, Any]:
    """A random model with its tokenizer; returns its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
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
        **changes,
    }
    write_tokenizer(folder)
    write_json(folder / "config.json", config)
    weights = {
        name: mx.array(value).astype(dtype) for name, value in random_weights(config, seed).items()
    }
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "pt"})
    return config


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    result: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], hidden),
        "model.norm.weight": (hidden,),
    }
    if not config["tie_word_embeddings"]:
        result["lm_head.weight"] = (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        block = {
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
            "self_attn.q_proj": (queries, hidden),
            "self_attn.k_proj": (keys, hidden),
            "self_attn.v_proj": (keys, hidden),
            "self_attn.o_proj": (hidden, queries),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
        result |= {f"model.layers.{layer}.{name}.weight": size for name, size in block.items()}
    return result


def random_weights(config: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Norms near 1; matrices large enough that attention looks somewhere."""
    random = np.random.default_rng(seed)
    return {
        name: (
            1 + 0.1 * random.standard_normal(shape)
            if len(shape) == 1
            else 1.5 * random.standard_normal(shape) / np.sqrt(shape[-1])
        ).astype(np.float32)
        for name, shape in shapes(config).items()
    }


def write_adapter(folder: Path, config: dict[str, Any], *, rank: int = 4, seed: int = 1) -> Path:
    """A random LoRA adapter of all linear layers, in mlx-lm's layout."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes(config).items():
        if "_proj" in name:
            module = name.removesuffix(".weight")
            tensors[f"{module}.lora_a"] = mx.array(random.standard_normal((shape[1], rank)) * 0.1)
            tensors[f"{module}.lora_b"] = mx.array(random.standard_normal((rank, shape[0])) * 0.1)
    tensors = {name: value.astype(mx.float32) for name, value in tensors.items()}
    mx.save_safetensors(str(folder / "adapters.safetensors"), tensors)
    keys = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
    keys += ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
    settings = {"rank": rank, "scale": 2.0, "dropout": 0.0, "keys": keys}
    record = {"fine_tune_type": "lora", "num_layers": -1, "lora_parameters": settings}
    write_json(folder / "adapter_config.json", record)
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **changes})


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
