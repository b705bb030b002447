"""What a GGUF file says of itself, re-read and compared with the model's folder.

Sees what logits cannot show: a norm epsilon, a missing pre-tokenizer, an unstated bos, a foreign
chat template, tensors too many. Computes no logits.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGMLQuantizationType, GGUFReader, LlamaFileType

from mlx_finetuning.errors import GgufUnreadable
from mlx_finetuning.quantizer import families, ggml, recipe, safetensors, tokenizer
from mlx_finetuning.quantizer.families import Config

EXPECTED: dict[str, Callable[[Config], object]] = {
    "block_count": lambda config: config["num_hidden_layers"],
    "context_length": lambda config: config["max_position_embeddings"],
    "embedding_length": lambda config: config["hidden_size"],
    "feed_forward_length": lambda config: config["intermediate_size"],
    "attention.head_count": lambda config: config["num_attention_heads"],
    "attention.head_count_kv": lambda config: config.get(
        "num_key_value_heads", config["num_attention_heads"]
    ),
    "attention.layer_norm_rms_epsilon": lambda config: config["rms_norm_eps"],
    "attention.key_length": lambda config: config.get("head_dim"),
    "rope.freq_base": lambda config: families.rope(config)["rope_theta"],
    "rope.dimension_count": families.head_size,
    "rope.scaling.type": lambda config: _linear(config, "rope_type"),
    "rope.scaling.factor": lambda config: _linear(config, "factor"),
    "vocab_size": lambda config: config["vocab_size"],
}
"""Metadata key without its prefix → what it must be; None: the key must be absent."""


@dataclass(frozen=True)
class Structure:
    """A file's own description, and in Japanese what is wrong with it."""

    quant: str
    """The file type's name: Q4_K_M; 「不明」 where it says nothing."""
    tensors: int
    types: dict[str, int]
    """Tensors per type."""
    problems: tuple[str, ...]


def inspect(gguf: Path, model: Path) -> Structure:
    """Compare `gguf` with the Hugging Face folder it was made from. Raises GgufUnreadable."""
    reader = _open(gguf)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    problems = [
        *_metadata_problems(reader, config),
        *_tokenizer_problems(reader, tokenizer.read(model, config["vocab_size"])),
        *_tensor_problems(reader, config, model),
    ]
    types = Counter(tensor.tensor_type.name for tensor in reader.tensors)
    return Structure(quant_of(reader), len(reader.tensors), dict(types), tuple(problems))


def _open(gguf: Path) -> GGUFReader:
    try:
        return GGUFReader(gguf)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise GgufUnreadable(
            path=str(gguf), reason=f"形式が違うか、壊れています: {error}"
        ) from error


def quant_of(reader: GGUFReader) -> str:
    names = {kind.value: name for name, kind in recipe.FILE_TYPE.items()}
    number = _value(reader, "general.file_type")
    if number in names:
        return names[number]
    known = {kind.value: kind.name.removeprefix("MOSTLY_") for kind in LlamaFileType}
    return known.get(number, "不明")


def _value(reader: GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()


def _linear(config: Config, key: str) -> object:
    settings = families.rope(config)
    return settings[key] if settings["rope_type"] == "linear" else None


def _metadata_problems(reader: GGUFReader, config: Config) -> list[str]:
    prefix = families.of(config).name
    found_arch = _value(reader, "general.architecture")
    if found_arch != prefix:
        return [f"モデルの種類が {found_arch} です（正しくは {prefix}）。"]
    found = {key: _value(reader, f"{prefix}.{key}") for key in EXPECTED}
    return [
        f"設定 {key} が {found[key]} です（正しくは {expected(config)}）。"
        for key, expected in EXPECTED.items()
        if not _same(found[key], expected(config))
    ]


def _same(found: Any, expected: Any) -> bool:
    if isinstance(expected, float) and isinstance(found, int | float):
        return math.isclose(found, expected, rel_tol=1e-6)
    return bool(found == expected)


def _tokenizer_problems(reader: GGUFReader, expected: tokenizer.TokenizerMetadata) -> list[str]:
    wanted: dict[str, object] = {
        "ggml.model": expected.model,
        "ggml.pre": expected.pre,
        "ggml.tokens": expected.tokens,
        "ggml.merges": expected.merges,
        "ggml.add_bos_token": expected.add_bos,
        "chat_template": expected.chat_template,
    }
    wanted |= {
        f"ggml.{'padding' if kind == 'pad' else 'unknown' if kind == 'unk' else kind}_token_id": number
        for kind, number in expected.special_ids.items()
    }
    return [
        f"トークナイザーの {key} が元のモデルと違います。"
        for key, value in wanted.items()
        if _value(reader, f"tokenizer.{key}") != value
    ]


def _tensor_problems(reader: GGUFReader, config: Config, model: Path) -> list[str]:
    family = families.of(config)
    weights = safetensors.open_model(model)
    mapped, _ = families.mapping(family, config, list(weights))
    expected = {item.name: weights[item.source].shape for item in mapped}
    expected |= {name: values.shape for name, values in family.extra(config).items()}
    found = {tensor.name: tensor for tensor in reader.tensors}
    problems = [f"重み {name} がありません。" for name in sorted(set(expected) - set(found))]
    problems += [f"余計な重み {name} があります。" for name in sorted(set(found) - set(expected))]
    for name in sorted(set(found) & set(expected)):
        shape = tuple(int(size) for size in reversed(found[name].shape))
        if shape != expected[name]:
            problems.append(f"重み {name} の形が {shape} です（正しくは {expected[name]}）。")
        if not _finite(found[name].data, found[name].tensor_type):
            problems.append(f"重み {name} に数値でない値があります。")
    return problems


def _finite(data: Any, kind: GGMLQuantizationType) -> bool:
    return ggml.is_valid(data, kind)
