"""From base weights and an adapter straight to one or several GGUF files, in one pass.

Blocks of rows are read from the mapped weights, get the adapter's share, are quantized in threads
and appended to every file; no fused folder and no file in between. A file takes its final name
only when it is whole and accepted. Does not compare results with the trained model: `accept`
lets the caller do that before anything is handed over.
"""

from __future__ import annotations

import functools
import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from mlx_finetuning import files
from mlx_finetuning.errors import (
    ModelSettingUnsupported,
    NonFiniteWeights,
    NotEnoughSpace,
    WeightsIncomplete,
)
from mlx_finetuning.files import JsonObject
from mlx_finetuning.language import N_, _
from mlx_finetuning.progress import Progress, Step, silent
from mlx_finetuning.quantizer.families import registry, tensor_types
from mlx_finetuning.quantizer.families.family import Config
from mlx_finetuning.quantizer.formats import experts, packed
from mlx_finetuning.quantizer.formats.experts import MxFp4
from mlx_finetuning.quantizer.formats.gguf_weights import GgufWeight
from mlx_finetuning.quantizer.formats.packed import Weights
from mlx_finetuning.quantizer.llama_cpp import ggml
from mlx_finetuning.quantizer.vocabulary import tokenizer
from mlx_finetuning.quantizer.vocabulary.tokenizer import ChatFormat
from mlx_finetuning.quantizer.write import gguf_writer, trained_weights
from mlx_finetuning.quantizer.write.gguf_writer import FileMetadata, PlannedTensor, file_bytes
from mlx_finetuning.utils import cores, in_order, model_settings
from mlx_finetuning.utils.gguf_reader import RowIndex

STAGE = N_("書き出し")
BLOCK_VALUES = 1 << 21
"""Weights per block: 8 MiB as float32."""
NO_IMPORTANCE: Mapping[str, ggml.Importance] = {}

Accept = Callable[[dict[str, Path]], None]
"""Gets the finished files (type → temporary path); raising keeps them from their final names."""


@dataclass(frozen=True)
class WrittenFile:
    """One finished GGUF file."""

    quant: str
    path: Path
    size_bytes: int
    tensors: int


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote."""

    files: dict[str, WrittenFile]
    """By quantization type."""
    elapsed_s: float
    """Reading, quantizing and writing, without `accept`."""


@dataclass(frozen=True)
class TensorSource:
    """One GGUF tensor's values, in blocks of rows; those of all experts are counted through."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[RowIndex], NDArray[np.float32]]
    order: NDArray[np.intp] | None = None
    importance: ggml.Importance | None = None
    stored: MxFp4 | GgufWeight | None = None
    """Where these values lie in the base in a form that GGUF has too."""

    def blocks(self) -> Iterator[RowIndex]:
        """Choices of rows for `read`, of about `BLOCK_VALUES` values each."""
        rows = math.prod(self.shape[:-1]) if len(self.shape) > 1 else self.shape[0]
        step = max(1, BLOCK_VALUES // self.shape[-1]) if len(self.shape) > 1 else rows
        for start in range(0, rows, step):
            chosen = slice(start, min(start + step, rows))
            yield chosen if self.order is None else self.order[chosen]


def export_gguf(
    model: Path,
    adapter: Path | None,
    outputs: dict[str, Path],
    progress: Progress = silent,
    *,
    name: str = "",
    importance: Mapping[str, ggml.Importance] = NO_IMPORTANCE,
    chat: ChatFormat | None = None,
    accept: Accept = lambda paths: None,
) -> ExportResult:
    """Write `model` with `adapter` to a GGUF file per quantization type of `outputs`.

    model: Hugging Face folder; adapter: mlx-lm adapter folder; name: `general.name`; importance:
    by the names of the model's weights, those that have one; chat: how the run converses.
    Raises ArchitectureUnsupported, ModelSettingUnsupported, TokenizerUnsupported,
    WeightsUnreadable, WeightsIncomplete, AdapterUnusable, NonFiniteWeights, QuantizerUnusable,
    NotEnoughSpace, DiskFull, Interrupted, and whatever `accept` raises.
    """
    started = time.monotonic()
    config = read_config(model)
    metadata = replace(
        file_metadata(model, config, name or model.name, chat), importance_entries=len(importance)
    )
    tensors = sources(model, config, adapter, importance)
    plans = {quant: plan(tensors, quant, config) for quant in outputs}
    # All files lie in one folder, as the callers do it.
    folder = files.make_folder(next(iter(outputs.values())).parent)
    require_space(folder, sum(file_bytes(planned, metadata) for planned in plans.values()))
    with ExitStack() as stack:
        drafts = {
            quant: stack.enter_context(files.replacing_path(path))
            for quant, path in outputs.items()
        }
        write(tensors, metadata, plans, drafts, progress)
        elapsed_s = time.monotonic() - started
        accept(drafts)
    written = {
        quant: WrittenFile(quant, path, path.stat().st_size, len(tensors))
        for quant, path in outputs.items()
    }
    return ExportResult(written, elapsed_s)


def require_space(folder: Path, needed: int) -> None:
    """That `needed` bytes are free where `folder` lies. Raises NotEnoughSpace."""
    available = shutil.disk_usage(folder).free
    if needed > available:
        raise NotEnoughSpace(
            path=str(folder),
            needed_gb=round(needed / 1e9, 2),
            available_gb=round(available / 1e9, 2),
        )


def read_config(model: Path) -> JsonObject:
    """The settings of a model's text part. Raises ModelSettingUnsupported."""
    return registry.text_part(model_settings.completed(stored_config(model), model))


def stored_config(model: Path) -> JsonObject:
    """A model folder's `config.json` as it is. Raises ModelSettingUnsupported."""
    try:
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelSettingUnsupported(
            setting="config.json",
            value=_("読めないファイル"),
            supported=_("Hugging Face形式のモデル"),
        ) from error
    if not isinstance(config, dict):
        raise ModelSettingUnsupported(
            setting="config.json", value=_("不正な形"), supported=_("JSONの組")
        )
    return config


def file_metadata(
    model: Path, config: Config, name: str, chat: ChatFormat | None = None
) -> FileMetadata:
    """What a file of `model` says besides its tensors. Raises as `registry.metadata`, `tokenizer.read`."""
    family, values = registry.of(config), registry.metadata(config)
    vocabulary = tokenizer.read(model, config["vocab_size"], family, chat)
    return FileMetadata(family.name, name, values, vocabulary)


# --- what is written ---------------------------------------------------------------------


def sources(
    model: Path,
    config: Config,
    adapter: Path | None,
    importance: Mapping[str, ggml.Importance] = NO_IMPORTANCE,
) -> list[TensorSource]:
    """Every tensor of a file, in its order. Raises WeightsIncomplete, AdapterUnusable."""
    family = registry.of(config)
    weights = packed.open_base(model, config)
    tuned = trained_weights.read_for(adapter, weights) if adapter else trained_weights.NOTHING
    mapped, unknown = registry.mapping(family, config, list(weights))
    missing = sorted(family.required(config) - {tensor.mlx_name for tensor in mapped})
    if missing or unknown:
        raise WeightsIncomplete(missing=missing[:5], unknown=sorted(unknown)[:5])
    tensors = []
    for tensor in mapped:
        stored = [changed(name, weights[name], tuned) for name in tensor.stored_names]
        tensors.append(_formed(tensor, stored, importance.get(tensor.mlx_name)))
    for name, values in family.computed_tensors(config).items():
        tensors.append(TensorSource(name, values.shape, values.__getitem__))
    return tensors


def _formed(
    tensor: registry.MappedTensor, stored: list[TensorSource], importance: ggml.Importance | None
) -> TensorSource:
    """The values of a GGUF tensor, from one stored weight or from one for every expert."""
    first, form = stored[0], tensor.form
    stored_shape, read_stored = first.shape, first.read
    if len(stored) > 1:
        stored_shape = (len(stored), *first.shape)
        read_stored = experts.joined([expert.read for expert in stored], first.shape[0])
    size = stored_shape[0] // form.shares
    # A convolution over time alone has an axis of one.
    shape = (size, *(columns for columns in stored_shape[1:] if columns > 1))
    order = form.rows
    if form.shares > 1:
        order = np.arange(form.share * size, (form.share + 1) * size)

    def read(rows: RowIndex) -> NDArray[np.float32]:
        values = read_stored(rows).reshape(-1, *shape[1:][-1:])
        if form.columns is not None:
            values = np.ascontiguousarray(values[:, form.columns])
        return values if form.formula is None else form.formula(values)

    if importance is not None and form.columns is not None:
        importance = np.ascontiguousarray(importance[form.columns])
    return TensorSource(tensor.name, shape, read, order, importance, first.stored)


def changed(name: str, weight: Weights, tuned: trained_weights.Adapter) -> TensorSource:
    """A weight of the base with what was learned, under its own name."""
    change = tuned.changes.get(name)

    def read(rows: RowIndex) -> NDArray[np.float32]:
        values = weight.rows(rows)
        return values if change is None else change.apply(values, rows)

    unchanged = weight if isinstance(weight, MxFp4 | GgufWeight) and change is None else None
    return TensorSource(name, weight.shape, read, stored=unchanged)


def plan(tensors: list[TensorSource], quant: str, config: Config) -> list[PlannedTensor]:
    """Every tensor with its type."""
    outline = replace(
        registry.outline(config),
        tied=not any(source.name == "output.weight" for source in tensors),
        has_importance=any(source.importance is not None for source in tensors),
        value_layers=tensor_types.value_layers(source.name for source in tensors),
    )
    planned = []
    for source in tensors:
        kind = tensor_types.tensor_type(source.name, source.shape, quant, outline)
        # Quantizing again would lose something and gain nothing.
        if source.stored is not None and kind not in tensor_types.UNQUANTIZED:
            kind = source.stored.stored_type
        planned.append(PlannedTensor(source.name, source.shape, kind))
    return planned


def predicted_sizes(model: Path, quants: Iterable[str]) -> dict[str, int]:
    """About the bytes of a file of each type, from shapes alone; within a few percent.

    Raises ArchitectureUnsupported, ModelSettingUnsupported, WeightsUnreadable, WeightsIncomplete.
    """
    config = read_config(model)
    tensors = sources(model, config, None)
    # A file holds the vocabulary much as the tokenizer's own file does.
    vocabulary = sum(path.stat().st_size for path in model.glob("tokenizer.json"))
    return {
        quant: sum(planned.nbytes for planned in plan(tensors, quant, config)) + vocabulary
        for quant in quants
    }


# --- writing -----------------------------------------------------------------------------

Block = dict[str, NDArray[np.uint8]]
"""One block of rows, quantized for every file: type → bytes."""


def write(
    tensors: list[TensorSource],
    metadata: FileMetadata,
    plans: dict[str, list[PlannedTensor]],
    paths: dict[str, Path],
    progress: Progress,
) -> None:
    """Write every file in one pass. Raises NonFiniteWeights, DiskFull, Interrupted."""
    total = sum(int(np.prod(source.shape)) for source in tensors)
    done = 0
    with ExitStack() as stack:
        outputs = {
            quant: stack.enter_context(gguf_writer.create(paths[quant], metadata, quant, planned))
            for quant, planned in plans.items()
        }
        pool = stack.enter_context(ThreadPoolExecutor(cores.usable()))
        for index, source in enumerate(tensors):
            kinds = {quant: planned[index].kind for quant, planned in plans.items()}
            quantize = functools.partial(_quantize, source, kinds)
            # In order; a few are made ahead.
            for values, block in in_order.results(pool, quantize, source.blocks()):
                for quant, data in block.items():
                    outputs[quant].append(data)
                done += values
                progress(Step(_(STAGE), done, total))
            for output in outputs.values():
                output.end_tensor()


def _quantize(source: TensorSource, kinds: dict[str, Type], rows: RowIndex) -> tuple[int, Block]:
    """A block in each type, and how many values it has."""
    by_type: dict[Type, NDArray[np.uint8]] = {}
    types = set(kinds.values())
    if source.stored is not None and source.stored.stored_type in types:
        by_type[source.stored.stored_type] = source.stored.blocks(rows)
        types.remove(source.stored.stored_type)
    try:
        if types:
            table = source.read(rows).reshape(-1, source.shape[-1])
            by_type |= {kind: ggml.quantize(table, kind, source.importance) for kind in types}
    except NonFiniteWeights as error:
        raise NonFiniteWeights(tensor=source.name) from error
    block = {quant: by_type[kind] for quant, kind in kinds.items()}
    return len(next(iter(block.values()))) * source.shape[-1], block
