"""A model's settings as they are meant: what its `config.json` leaves unsaid, or says in newer words.

mlx-lm, transformers and llama.cpp's converter fill gaps each with a default of their own, and
mlx-lm's older classes do not know transformers 5's `rope_parameters`. Whoever trains a model and
whoever writes it take its settings from here, so that both have the same one. Reads JSON, and of
the weights their names and at most two tables.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_finetuning.files import JsonObject
from mlx_finetuning.utils import safetensors_header
from mlx_finetuning.utils.safetensors_header import HeaderDamaged, TensorEntry

Settings = JsonObject

DEFAULTS: dict[str, Settings] = {
    "gemma3_text": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 131072,
        "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-6,
        "rope_local_base_freq": 10000.0,
        "rope_theta": 1000000.0,
        "sliding_window": 4096,
        "vocab_size": 262208,
    },
    "ministral3": {
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "hidden_act": "silu",
        "max_position_embeddings": 262144,
        "rms_norm_eps": 1e-5,
        "vocab_size": 131072,
    },
}
"""What transformers takes where a text part within a larger model leaves it out; by `model_type`."""
TEXT_PARTS = {"gemma3": "gemma3_text"}
"""The kind of a text part that does not say it."""
OLDER_ROPE = frozenset(
    "llama mistral qwen2 gemma2 gemma3_text phi3 granite smollm3 qwen3_moe gpt_oss".split()
)
"""Kinds whose class in mlx-lm reads `rope_theta` and `rope_scaling`, not `rope_parameters`."""
TIED_ALWAYS = frozenset({"gemma2", "lfm2"})
"""Neither mlx-lm nor llama.cpp know a head of their own for these: one that differs is refused."""
TIED_BY_WEIGHTS = frozenset({"gemma3_text"})
"""mlx-lm uses a head that is among the weights, whatever the settings say."""
VOCABULARY_OUTSIDE = frozenset({"gemma3", "gemma4", "gemma4_unified"})
"""mlx-lm takes the vocabulary's size from beside the text part."""
OUTSIDE_TEXT = tuple(
    f"{start}{part}"
    for start in ("model.", "")
    for part in (
        *("vision_", "visual.", "audio_", "embed_vision.", "embed_audio."),
        *("multi_modal_projector.", "mtp."),
    )
)
"""Beginnings of the names of weights that are not the text part's: mlx-lm does not load them."""
EMBEDDING, HEAD = "embed_tokens.weight", "lm_head.weight"
_COMPARED = 1 << 20
"""Bytes of two tables that are compared at a time."""


def read(folder: Path) -> Settings:
    """The settings in a model's folder, completed. Raises OSError, ValueError."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise ValueError("config.json is no object")
    return completed(config, folder)


def completed(config: Mapping[str, Any], folder: Path) -> Settings:
    """`config` with what it leaves unsaid; a text part stays where it is."""
    inner = config.get("text_config")
    text: Settings = dict(inner if isinstance(inner, dict) else config)
    outer = str(config.get("model_type", ""))
    kind = str(text.get("model_type") or TEXT_PARTS.get(outer, outer))
    kind = TEXT_PARTS.get(kind, kind)
    defaults = DEFAULTS.get(kind, {})
    text |= {key: value for key, value in defaults.items() if text.get(key) is None}
    if kind in OLDER_ROPE:
        text |= _older_rope(text)
    stated = {part.get("tie_word_embeddings") for part in (text, config)} - {None}
    weights: dict[str, TensorEntry] = {}
    try:
        for file in sorted(folder.glob("model*.safetensors")):
            weights |= safetensors_header.read(file).tensors
    except (OSError, HeaderDamaged):
        weights = {}  # the file's own reader will say so
    tied = is_tied(kind, stated, weights)
    if tied is not None:
        text["tie_word_embeddings"] = tied
    if not isinstance(inner, dict):
        return text
    vocabulary = inner.get("vocab_size") or config.get("vocab_size") or text.get("vocab_size")
    if outer in VOCABULARY_OUTSIDE and vocabulary:
        text["vocab_size"] = vocabulary
        return {**config, "vocab_size": vocabulary, "text_config": text}
    return {**config, "text_config": text}


def _older_rope(text: Settings) -> Settings:
    """`rope_theta` and `rope_scaling` out of transformers 5's `rope_parameters`, which win."""
    parameters = text.get("rope_parameters")
    if not isinstance(parameters, dict):
        return {}
    sliding = parameters.get("sliding_attention")
    full = parameters.get("full_attention", parameters)
    older: Settings = {}
    for key in ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings"):
        if full.get(key) is not None:
            older[key] = full[key]
    if isinstance(sliding, dict) and sliding.get("rope_theta") is not None:
        older["rope_local_base_freq"] = sliding["rope_theta"]
    kind = full.get("rope_type", full.get("type", "default"))
    # Phi-3's class asks for the scaling's `type`, others for its `rope_type` too.
    scaling = {**full, "rope_type": kind, "type": kind}
    older["rope_scaling"] = None if kind == "default" else scaling
    return older


# --- the output head ---------------------------------------------------------------------


def is_tied(kind: str, stated: set[Any], weights: Mapping[str, TensorEntry]) -> bool | None:
    """Whether the embedding is the output head too; None where neither settings nor weights tell.

    stated: the values of `tie_word_embeddings`. A head that repeats the embedding is none where
    the settings tie them; one that differs was trained apart, as transformers takes it.
    """
    if kind in TIED_ALWAYS:
        return _ending(weights, HEAD) is None or repeats_embedding(weights)
    said = next(iter(stated)) if len(stated) == 1 else None
    if not weights:
        return said
    if _ending(weights, HEAD) is None:
        return said is not False
    if kind in TIED_BY_WEIGHTS or said is not True:
        return False
    return repeats_embedding(weights)


def repeats_embedding(weights: Mapping[str, TensorEntry]) -> bool:
    """Whether the head's bytes are those of the embedding."""
    head, embedding = _ending(weights, HEAD), _ending(weights, EMBEDDING)
    if head is None or embedding is None:
        return False
    if (head.dtype, head.shape) != (embedding.dtype, embedding.shape):
        return False
    with head.file.open("rb") as head_stream, embedding.file.open("rb") as embedding_stream:
        head_stream.seek(head.start)
        embedding_stream.seek(embedding.start)
        left = head.stop - head.start
        while left > 0:
            size = min(left, _COMPARED)
            if head_stream.read(size) != embedding_stream.read(size):
                return False
            left -= size
    return True


def _ending(weights: Mapping[str, TensorEntry], ending: str) -> TensorEntry | None:
    return next((weight for name, weight in weights.items() if name.endswith(ending)), None)
