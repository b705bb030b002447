"""How each model family's folder maps to GGUF: metadata, tensor names, row orders, extra tensors.

A family is a record of pure functions of its `config.json`; a new one is an entry in `FAMILIES`
with its tests. Follows llama.cpp's own converter. Reads no weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, RopeScalingType, get_tensor_name_map
from numpy.typing import NDArray

from mlx_finetuning.errors import ArchitectureUnsupported, ModelSettingUnsupported
from mlx_finetuning.quantizer.recipe import Outline

Config = Mapping[str, Any]
Value = int | float | str | bool
"""Metadata: int is written as uint32, float as float32."""


@dataclass(frozen=True)
class Mapped:
    """One tensor of the GGUF file and where it comes from."""

    name: str
    source: str
    """Its name in the Hugging Face folder."""
    order: NDArray[np.intp] | None = None
    """Row i of the GGUF tensor is row `order[i]` of the source; None keeps the order."""


@dataclass(frozen=True)
class Family:
    """What the writer must know of an architecture."""

    arch: MODEL_ARCH
    metadata: Callable[[Config], dict[str, Value]]
    """Keys without the architecture's prefix. Raises ModelSettingUnsupported."""
    required: Callable[[Config], set[str]]
    """The source weights that a model of this shape cannot do without."""
    row_order: Callable[[Config, str], NDArray[np.intp] | None]
    extra: Callable[[Config], dict[str, NDArray[np.float32]]]
    """Tensors that are computed from the configuration."""

    @property
    def name(self) -> str:
        return MODEL_ARCH_NAMES[self.arch]


def of(config: Config) -> Family:
    """The family of a model's `config.json`. Raises ArchitectureUnsupported."""
    names = config.get("architectures") or ["(なし)"]
    if names[0] not in FAMILIES:
        raise ArchitectureUnsupported(architecture=names[0], supported=sorted(FAMILIES))
    return FAMILIES[names[0]]


def outline(config: Config) -> Outline:
    """What the quantization recipe needs to know of the model."""
    return Outline(
        layers=config["num_hidden_layers"],
        tied=bool(config.get("tie_word_embeddings", False)),
        grouped=_key_heads(config) != config["num_attention_heads"],
    )


def mapping(family: Family, config: Config, sources: list[str]) -> tuple[list[Mapped], list[str]]:
    """Where each source tensor goes, in the order of a GGUF file, and the names that fit nowhere."""
    names = get_tensor_name_map(family.arch, config["num_hidden_layers"])
    found, unknown = [], []
    for source in sources:
        if _is_unused(config, source):
            continue
        name = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if name is None:
            unknown.append(source)
        else:
            found.append(Mapped(name, source, family.row_order(config, source)))
    return sorted(found, key=_file_order), unknown


def rope(config: Config) -> dict[str, Any]:
    """Rope settings, from the older keys or from `rope_parameters`."""
    settings = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    settings.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    settings.setdefault("rope_type", settings.get("type", "default"))
    return settings


def head_size(config: Config) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _key_heads(config: Config) -> int:
    return int(config.get("num_key_value_heads") or config["num_attention_heads"])


def _is_unused(config: Config, source: str) -> bool:
    # Both mlx-lm and llama.cpp ignore a head that repeats the embedding.
    repeated_head = source == "lm_head.weight" and config.get("tie_word_embeddings")
    return bool(repeated_head) or source.endswith(".rotary_emb.inv_freq")


def _file_order(mapped: Mapped) -> tuple[int, int, str]:
    part, _, rest = mapped.name.partition(".")
    if part == "blk":
        return 1, int(rest.split(".")[0]), mapped.name
    return (0 if part == "token_embd" else 2), 0, mapped.name


# --- llama -------------------------------------------------------------------------------


def _llama_metadata(config: Config) -> dict[str, Value]:
    _refuse_llama_variants(config)
    size = head_size(config)
    metadata: dict[str, Value] = {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": _key_heads(config),
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "rope.freq_base": float(rope(config)["rope_theta"]),
        "rope.dimension_count": size,
        "vocab_size": config["vocab_size"],
    }
    if config.get("head_dim"):
        metadata |= {"attention.key_length": size, "attention.value_length": size}
    return metadata | _rope_metadata(config)


def _llama_required(config: Config) -> set[str]:
    block = [f"mlp.{part}_proj" for part in ("gate", "up", "down")]
    block += [f"self_attn.{part}_proj" for part in "qkvo"]
    block += ["input_layernorm", "post_attention_layernorm"]
    names = {
        f"model.layers.{layer}.{part}.weight"
        for layer in range(config["num_hidden_layers"])
        for part in block
    }
    names |= {"model.embed_tokens.weight", "model.norm.weight"}
    return names if config.get("tie_word_embeddings") else names | {"lm_head.weight"}


def _refuse_llama_variants(config: Config) -> None:
    """Raises ModelSettingUnsupported for what the file could only express wrongly."""
    if config.get("quantization") or config.get("quantization_config"):
        raise ModelSettingUnsupported(
            setting="quantization", value="量子化済み", supported="F32、F16、BF16の重み"
        )
    activation = config.get("hidden_act", "silu")
    if activation != "silu":
        raise ModelSettingUnsupported(setting="hidden_act", value=activation, supported="silu")


def _rope_metadata(config: Config) -> dict[str, Value]:
    settings = rope(config)
    kind = settings["rope_type"]
    if kind not in ROPE_METADATA:
        supported = "、".join(ROPE_METADATA)
        raise ModelSettingUnsupported(setting="rope_type", value=kind, supported=supported)
    return ROPE_METADATA[kind](settings)


def _linear_rope(settings: Config) -> dict[str, Value]:
    return {
        "rope.scaling.type": RopeScalingType.LINEAR.value,
        "rope.scaling.factor": float(settings["factor"]),
    }


ROPE_METADATA: dict[str, Callable[[Config], dict[str, Value]]] = {
    "default": lambda settings: {},
    "llama3": lambda settings: {},  # in the tensor rope_freqs.weight
    "linear": _linear_rope,
}


def _llama_row_order(config: Config, source: str) -> NDArray[np.intp] | None:
    """Hugging Face splits a head's rotated pairs into halves; llama.cpp keeps them side by side."""
    module = source.rpartition(".")[0]
    heads = {"q_proj": config["num_attention_heads"], "k_proj": _key_heads(config)}
    count = heads.get(module.rpartition(".")[2])
    if count is None:
        return None
    rows = np.arange(count * head_size(config)).reshape(count, 2, -1)
    return rows.swapaxes(1, 2).reshape(-1)


def _llama_extra(config: Config) -> dict[str, NDArray[np.float32]]:
    settings = rope(config)
    if settings["rope_type"] != "llama3":
        return {}
    return {"rope_freqs.weight": llama3_rope_factors(head_size(config), settings)}


def llama3_rope_factors(size: int, settings: Config) -> NDArray[np.float32]:
    """Divisors of the rotation frequencies, [size / 2]: 1 for fast ones, `factor` for slow ones."""
    factor = settings["factor"]
    low, high = settings["low_freq_factor"], settings["high_freq_factor"]
    context = settings["original_max_position_embeddings"]
    powers = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    frequencies = 1 / np.float32(settings["rope_theta"]) ** powers
    wavelengths = np.float32(2 * math.pi) / frequencies
    smooth = (context / wavelengths - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    fast, slow = wavelengths < context / high, wavelengths > context / low
    return np.where(fast, 1.0, np.where(slow, factor, between)).astype(np.float32)


LLAMA = Family(MODEL_ARCH.LLAMA, _llama_metadata, _llama_required, _llama_row_order, _llama_extra)
FAMILIES = {"LlamaForCausalLM": LLAMA, "MistralForCausalLM": LLAMA}
