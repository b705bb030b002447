"""The tuned model as a Hugging Face folder: for mlx-lm, transformers and everything that reads them.

Weights keep the base's names and type; a base that MLX quantized is dequantized, for quantizing
again would erase most of what was learned. Any architecture can be written: nothing is mapped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from mlx_finetuning import files
from mlx_finetuning.errors import ModelSettingUnsupported
from mlx_finetuning.language import _
from mlx_finetuning.progress import Progress, Step, silent
from mlx_finetuning.quantizer.families import registry
from mlx_finetuning.quantizer.families.family import text_part_name
from mlx_finetuning.quantizer.formats import packed, safetensors
from mlx_finetuning.quantizer.formats.safetensors import Spec
from mlx_finetuning.quantizer.llama_cpp import ggml
from mlx_finetuning.quantizer.write import export, trained_weights
from mlx_finetuning.quantizer.write.export import TensorSource
from mlx_finetuning.tokenization import foreign
from mlx_finetuning.tokenization.chat import TEMPLATE
from mlx_finetuning.utils import model_settings

SHARD_BYTES = 5_000_000_000
COMPANIONS = (
    *("generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "chat_template*", "LICENSE*", "NOTICE*"),
)
"""Beside `config.json`; a tokenizer's files come from the base, where they are complete."""


@dataclass(frozen=True)
class _Tensor:
    """One weight of the folder and where its values come from."""

    spec: Spec
    source: TensorSource


def write(
    model: Path, adapter: Path, folder: Path, made_for: str, progress: Progress = silent
) -> int:
    """Write `model` with `adapter` into an existing folder; returns the bytes of its weights.

    made_for: `pt` (Hugging Face) or `mlx`. Raises WeightsUnreadable, ModelSettingUnsupported,
    AdapterUnusable, NonFiniteWeights, NotEnoughSpace, TokenizerUnreadable, DiskFull, Interrupted.
    """
    stored = export.stored_config(model)
    if made_for == "pt" and stored.get("model_type") == "gpt_oss":
        # Its experts lie there as four-bit blocks, or transposed; nothing here writes either.
        raise ModelSettingUnsupported(
            setting="model_type", value="gpt_oss", supported=_("gguf、gguf-lora、mlx での書き出し")
        )
    settings = model_settings.completed(stored, model)
    weights = packed.open_base(model, settings)
    tuned = trained_weights.read_for(adapter, weights)
    # A head that only repeated the embedding would be the untuned one.
    is_tied = registry.text_part(settings).get("tie_word_embeddings") is True
    tensors = [
        _Tensor(Spec(name, weight.kind, weight.shape), export.changed(name, weight, tuned))
        for name, weight in sorted(weights.items())
        if not (is_tied and text_part_name(name) == "lm_head.weight")
    ]
    total = sum(tensor.spec.nbytes for tensor in tensors)
    export.require_space(folder, total)
    _write_shards(folder, tensors, made_for, progress)
    # mlx-lm's older classes would take some settings of today for silence.
    config = settings if made_for == "mlx" else stored
    tied = registry.text_part(settings).get("tie_word_embeddings")
    if made_for != "mlx" and tied is not None:  # said, since readers' defaults differ
        config = {**stored, "tie_word_embeddings": tied}
        if isinstance(stored.get("text_config"), dict):
            config["text_config"] = {**stored["text_config"], "tie_word_embeddings": tied}
    unquantized = {
        key: value for key, value in config.items() if not key.startswith("quantization")
    }
    text = json.dumps(unquantized, ensure_ascii=False, indent=2) + "\n"
    files.write_text(folder / "config.json", text)
    for pattern in COMPANIONS:
        for file in model.glob(pattern):
            shutil.copyfile(file, folder / file.name)
    # The template by which the adapter was trained; others see no other one.
    template = adapter / TEMPLATE
    if template.is_file():
        shutil.copyfile(template, folder / TEMPLATE)
    foreign.settle(folder)
    return total


def _write_shards(folder: Path, tensors: list[_Tensor], made_for: str, progress: Progress) -> None:
    shards: list[list[_Tensor]] = [[]]
    size = 0
    for tensor in tensors:
        if shards[-1] and size + tensor.spec.nbytes > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.spec.nbytes
    total = sum(tensor.spec.nbytes for tensor in tensors)
    done = 0
    placement: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        name = "model.safetensors" if len(shards) == 1 else name
        placement |= {tensor.spec.name: name for tensor in shard}
        with files.replacing(folder / name) as stream:
            blocks = _reported(shard, done, total, progress)
            safetensors.write(stream, [tensor.spec for tensor in shard], blocks, made_for)
        done += sum(tensor.spec.nbytes for tensor in shard)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": placement}
        files.write_text(folder / "model.safetensors.index.json", json.dumps(index, indent=2))


def _reported(
    shard: list[_Tensor], done: int, total: int, progress: Progress
) -> Iterator[NDArray[np.uint8]]:
    for tensor in shard:
        for rows in tensor.source.blocks():
            values = tensor.source.read(rows)
            data = ggml.quantize(values.reshape(-1, values.shape[-1]), Type[tensor.spec.kind])
            done += data.nbytes
            yield data
            progress(Step(_(export.STAGE), done, total))
