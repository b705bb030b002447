"""`config.json` out of a GGUF file's metadata: what the export writes, read backwards.

Nothing is taken on trust: the settings found must give the file's metadata again by the export's own
functions, so a value that would be lost, or that is not understood, is a refusal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mlx_finetuning.errors import ExportError
from mlx_finetuning.language import _
from mlx_finetuning.messages import describe
from mlx_finetuning.quantizer.base.refusal import Unusable
from mlx_finetuning.quantizer.families import family, registry
from mlx_finetuning.quantizer.families.family import COMPUTED_KEYS, Metadata
from mlx_finetuning.quantizer.families.gemma import GEMMA3_PATTERN, Gemma2, Gemma3
from mlx_finetuning.utils.gguf_reader import Gguf

Stated = Mapping[str, Any]
"""The file's metadata under its architecture's prefix, without it."""
Settings = dict[str, object]
"""A part of a `config.json`."""

ARCHITECTURES = {
    "llama": ("LlamaForCausalLM", "llama"),
    "qwen2": ("Qwen2ForCausalLM", "qwen2"),
    "qwen3": ("Qwen3ForCausalLM", "qwen3"),
    "gemma2": ("Gemma2ForCausalLM", "gemma2"),
    "gemma3": ("Gemma3ForCausalLM", "gemma3_text"),
    "phi3": ("Phi3ForCausalLM", "phi3"),
}
"""llama.cpp's architectures that can be trained → class and `model_type` in transformers."""
LLAMA3_CONTEXTS = [1 << power for power in range(7, 21)]
"""Lengths that Llama 3 models may have had before they were extended; files do not say it."""
MOST_ROWS = 1 << 20
"""Of any matrix of attention; far more than any model has."""
INFERRED = {
    *("attention.key_length", "attention.value_length", "rope.dimension_count", "vocab_size"),
    *("rope.freq_base", "rope.freq_base_swa", "rope.scaling.original_context_length"),
    "attention.sliding_window",
}
"""Keys that older converters leave out where llama.cpp takes the value that is expected."""


def config_of(file: Gguf) -> Settings:
    """The settings of the model in `file`, proven by writing them back. Raises Unusable."""
    name = str(file.metadata.get("general.architecture"))
    if name not in ARCHITECTURES:
        known = _("、").join(ARCHITECTURES)
        raise Unusable(
            _("モデルの種類が {name} です（GGUFから学習できるのは {known}）。").format(
                name=name, known=known
            )
        )
    stated = {
        key.removeprefix(f"{name}."): value
        for key, value in file.metadata.items()
        if key.startswith(f"{name}.")
    }
    try:
        require_sane(stated, file)
        config = {
            **common_settings(name, stated, file),
            **rope_settings(stated, file),
            **own_settings(name, stated),
        }
        lost = sorted(differing(stated, registry.metadata(config)))
    except KeyError as error:
        raise Unusable(
            _("設定 {name} がファイルにありません。").format(name=error.args[0])
        ) from error
    except (TypeError, ValueError, ArithmeticError) as error:
        raise Unusable(_("設定の値が不正です: {error}").format(error=error)) from error
    except ExportError as error:
        raise Unusable(describe(error).why) from error
    if lost:
        named = _("、").join(f"{key}={stated.get(key)}" for key in lost[:3])
        raise Unusable(_("対応していない設定があります: {named}").format(named=named))
    return config


def require_sane(stated: Stated, file: Gguf) -> None:
    """Numbers from which tables are made: a damaged one must not fill the memory.

    Raises KeyError, ValueError.
    """
    limits = {
        "block_count": len(file.tensors),
        "embedding_length": MOST_ROWS,
        "attention.head_count": MOST_ROWS,
        "attention.head_count_kv": stated["attention.head_count"],
        "attention.key_length": MOST_ROWS,
    }
    for key, most in limits.items():
        value = stated.get(key, 1)
        if not isinstance(value, int) or not 1 <= value <= most:
            raise ValueError(f"{key} {value}")
    if stated["attention.head_count"] * stated.get("attention.key_length", 1) > MOST_ROWS:
        raise ValueError(f"attention.head_count {stated['attention.head_count']}")


def common_settings(name: str, stated: Stated, file: Gguf) -> Settings:
    """What every architecture states. Raises KeyError, ValueError."""
    rows, width = file.tensors["token_embd.weight"].shape
    if width != stated["embedding_length"]:
        raise ValueError(f"token_embd.weight {rows} × {width}")
    class_name, model_type = ARCHITECTURES[name]
    heads = stated["attention.head_count"]
    settings: Settings = {
        "architectures": [class_name],
        "model_type": model_type,
        "num_hidden_layers": stated["block_count"],
        "max_position_embeddings": stated["context_length"],
        "hidden_size": width,
        "intermediate_size": stated["feed_forward_length"],
        "num_attention_heads": heads,
        "num_key_value_heads": stated.get("attention.head_count_kv", heads),
        "rms_norm_eps": _decimal(stated["attention.layer_norm_rms_epsilon"]),
        "vocab_size": rows,
        "hidden_act": "silu",
        "tie_word_embeddings": "output.weight" not in file.tensors,
    }
    if "attention.key_length" in stated:
        settings["head_dim"] = stated["attention.key_length"]
    if "blk.0.attn_q.bias" in file.tensors:
        settings["attention_bias"] = True
    return settings


def own_settings(name: str, stated: Stated) -> Settings:
    """What only some architectures have. Raises KeyError."""
    if name == "phi3":
        head = stated["embedding_length"] // stated["attention.head_count"]
        original = "rope.scaling.original_context_length"
        return {
            "original_max_position_embeddings": stated.get(original, stated["context_length"]),
            "sliding_window": stated.get("attention.sliding_window") or None,
            "partial_rotary_factor": stated.get("rope.dimension_count", head) / head,
        }
    if name not in ("gemma2", "gemma3"):
        return {}
    # By what llama.cpp scales attention.
    scalar = stated["attention.key_length"]
    if stated["block_count"] == {"gemma2": Gemma2, "gemma3": Gemma3}[name].layers_of_27b:
        scalar = stated["embedding_length"] // stated["attention.head_count"]
    settings: Settings = {
        "sliding_window": stated["attention.sliding_window"],
        "query_pre_attn_scalar": scalar,
        "hidden_activation": family.GELU[0],
    }
    if name == "gemma2":
        caps = ("attn_logit_softcapping", "final_logit_softcapping")
        return {**settings, **{cap: _decimal(stated[cap]) for cap in caps}}
    local_base = _decimal(stated.get("rope.freq_base_swa", 10000.0))
    return {
        **settings,
        "rope_local_base_freq": local_base,
        "sliding_window_pattern": GEMMA3_PATTERN,
    }


def rope_settings(stated: Stated, file: Gguf) -> Settings:
    """Base and scaling of the rotation. Raises Unusable, KeyError."""
    theta = _decimal(stated.get("rope.freq_base", 10000.0))
    kind = stated.get("rope.scaling.type", "none")
    scaling: Settings = {"rope_type": kind, "type": kind}
    if family.ROPE_FREQUENCIES in file.tensors:
        scaling = llama3_scaling(file, theta)
    elif "rope_factors_long.weight" in file.tensors:
        scaling = {"type": "longrope"}
        for part in ("long", "short"):
            factors = file.tensors[f"rope_factors_{part}.weight"].values().reshape(-1)
            scaling[f"{part}_factor"] = [_decimal(value) for value in factors]
    elif kind == "none":
        return {"rope_theta": theta}
    else:
        scaling["factor"] = _decimal(stated["rope.scaling.factor"])
        if kind == "yarn":
            original = stated["rope.scaling.original_context_length"]
            scaling["original_max_position_embeddings"] = original
        for setting in ("beta_fast", "beta_slow"):
            if (value := stated.get(f"rope.scaling.yarn_{setting}")) is not None:
                scaling[setting] = _decimal(value)
    return {"rope_theta": theta, "rope_scaling": scaling}


def llama3_scaling(file: Gguf, theta: float) -> Settings:
    """Found by trying: a file holds the frequencies' divisors alone. Raises Unusable."""
    divisors = file.tensors[family.ROPE_FREQUENCIES].values().reshape(-1)
    for context in LLAMA3_CONTEXTS:
        scaling: Settings = {
            "rope_type": "llama3",
            "factor": _decimal(divisors.max()),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": context,
        }
        expected = family.llama3_rope_factors(2 * len(divisors), {**scaling, "rope_theta": theta})
        if np.allclose(divisors, expected, rtol=1e-6):
            return scaling
    raise Unusable(
        _("回転の周波数（rope_freqs.weight）が、知られている Llama 3 のものと違います。")
    )


def differing(stated: Stated, found: Metadata) -> Iterator[str]:
    """Keys that the settings give otherwise than the file states them."""
    heads = stated["embedding_length"] // stated["attention.head_count"]
    head_size = stated.get("attention.key_length", heads)
    for key in found.keys() | {key for key in stated if key.startswith(COMPUTED_KEYS)}:
        value, expected = stated.get(key), found.get(key)
        if key in INFERRED and (value is None or (expected is None and value == head_size)):
            continue
        if isinstance(value, float) and isinstance(expected, int | float):
            if not math.isclose(value, expected, rel_tol=1e-6):
                yield key
        elif value != expected and not (key == "rope.scaling.type" and value == "none"):
            yield key


def _decimal(value: Any) -> float:
    """The shortest decimal number that is this float32: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))
