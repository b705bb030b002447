"""What a GGUF file says of itself, re-read and compared with the model's folder.

Sees what logits cannot show: a norm epsilon, a missing pre-tokenizer, an unstated bos, a foreign
chat template, tensors too many. Computes no logits.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gguf import LlamaFileType

from mlx_finetuning.language import _
from mlx_finetuning.quantizer.families import registry, tensor_types
from mlx_finetuning.quantizer.families.family import COMPUTED_KEYS, Config, head_size
from mlx_finetuning.quantizer.llama_cpp import ggml
from mlx_finetuning.quantizer.verify.results import Structure
from mlx_finetuning.quantizer.vocabulary.tokenizer import TokenizerMetadata
from mlx_finetuning.quantizer.write import export
from mlx_finetuning.utils.gguf_reader import Gguf

HEAD_SIZE_KEYS = ("attention.key_length", "attention.value_length", "rope.dimension_count")
"""Keys that a converter may state or leave to llama.cpp, which infers the same."""
TOKEN_KEYS = {"pad": "padding", "unk": "unknown"}


def inspect(gguf: Gguf, model: Path, config: Config, expected: TokenizerMetadata) -> Structure:
    """Compare a file with the folder it was made from, its `config.json` and its tokenizer."""
    problems = [
        *_metadata_problems(gguf, config),
        *_tokenizer_problems(gguf, expected),
        *_tensor_problems(gguf, config, model),
    ]
    types = Counter(tensor.kind.name for tensor in gguf.tensors.values())
    return Structure(quant_of(gguf), len(gguf.tensors), dict(types), tuple(problems))


def quant_of(gguf: Gguf) -> str:
    """The file type's name: Q4_K_M; 「不明」 where the file says nothing."""
    number = gguf.metadata.get("general.file_type", -1)
    others = {kind.value: kind.name.removeprefix("MOSTLY_") for kind in LlamaFileType}
    own = {kind.value: name for name, kind in tensor_types.FILE_TYPE.items()}
    return {**others, **own}.get(number, _("不明"))


def _metadata_problems(gguf: Gguf, config: Config) -> list[str]:
    family = registry.of(config)
    arch = gguf.metadata.get("general.architecture")
    if arch != family.name:
        return [
            _("モデルの種類が {arch} です（正しくは {name}）。").format(arch=arch, name=family.name)
        ]
    prefix = f"{family.name}."
    stated = {
        key.removeprefix(prefix): value
        for key, value in gguf.metadata.items()
        if key.startswith(prefix)
    }
    expected: dict[str, object] = {key: None for key in stated if key.startswith(COMPUTED_KEYS)}
    expected |= {key: head_size(config) for key in HEAD_SIZE_KEYS if key in stated}
    expected |= family.metadata(config)
    return [
        _("設定 {key} が {stated} です（正しくは {value}）。").format(
            key=key, stated=stated.get(key), value=value
        )
        for key, value in expected.items()
        if not _same(stated.get(key), value)
    ]


def _same(stated: Any, expected: Any) -> bool:
    """Files hold float32."""
    if isinstance(expected, float) and isinstance(stated, int | float):
        return math.isclose(stated, expected, rel_tol=1e-6)
    return bool(stated == expected)


def _tokenizer_problems(gguf: Gguf, expected: TokenizerMetadata) -> list[str]:
    metadata: dict[str, object] = {
        "ggml.model": expected.model,
        "ggml.pre": expected.pre or None,
        "ggml.tokens": expected.tokens,
        "ggml.merges": expected.merges,
        "ggml.add_space_prefix": expected.add_space_prefix,
        "ggml.remove_extra_whitespaces": expected.merges_spaces,
        "ggml.add_bos_token": expected.add_bos,
        "chat_template": expected.chat_template,
    }
    metadata |= {
        f"ggml.{TOKEN_KEYS.get(kind, kind)}_token_id": number
        for kind, number in expected.special_ids.items()
    }
    return [
        _("トークナイザーの {key} が元のモデルと違います。").format(key=key)
        for key, value in metadata.items()
        if gguf.metadata.get(f"tokenizer.{key}") != value
    ]


def _tensor_problems(gguf: Gguf, config: Config, model: Path) -> Iterator[str]:
    expected = {source.name: source.shape for source in export.sources(model, config, None)}
    for name in sorted(set(expected) - set(gguf.tensors)):
        yield _("重み {name} がありません。").format(name=name)
    for name in sorted(set(gguf.tensors) - set(expected)):
        yield _("余計な重み {name} があります。").format(name=name)
    for name in sorted(set(gguf.tensors) & set(expected)):
        tensor = gguf.tensors[name]
        if tensor.shape != expected[name]:
            yield _("重み {name} の形が {shape} です（正しくは {expected}）。").format(
                name=name, shape=tensor.shape, expected=expected[name]
            )
        if not ggml.is_valid(tensor.data, tensor.kind):
            yield _("重み {name} に数値でない値があります。").format(name=name)
