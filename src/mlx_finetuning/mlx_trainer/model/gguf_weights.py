"""Weights out of a GGUF file, as exact as MLX can hold them.

What `gguf_blocks` can pack stays packed, exactly. All other types become floats: on the CPU float32,
which holds what llama.cpp computes, but for matrices of F16 and BF16, which stay as they are where
`half_precision` has layers for them; on a GPU bfloat16, which rounds to 8 bits (Q3_K, Q2_K, IQ …).
"""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from gguf import GGMLQuantizationType as Type
from mlx_lm import utils

from mlx_finetuning.errors import BaseFileChanged
from mlx_finetuning.language import _
from mlx_finetuning.mlx_trainer.kernels import backend
from mlx_finetuning.mlx_trainer.kernels.gguf_blocks import PACKED, packed_bytes
from mlx_finetuning.mlx_trainer.model import half_precision, six_bit, unpacking
from mlx_finetuning.utils import cores, gguf_base, gguf_reader
from mlx_finetuning.utils.gguf_base import GgufBase
from mlx_finetuning.utils.gguf_reader import EVERYTHING, RowIndex, StoredTensor

AHEAD_BYTES = 1 << 30
"""Read ahead at once: without Python's lock, which a tokenizer's library holds for half a second."""
MATRIX = 2
"""Dimensions."""


def load(
    base: GgufBase,
    settings: Mapping[str, Any],
    classes: Callable[..., tuple[Any, Any]],
    *,
    is_outline: bool = False,
) -> nn.Module:
    """mlx-lm's model with the file's weights.

    settings: of `config.json`; classes: mlx-lm's classes of model and settings for it;
    is_outline: with zeros in the weights' places. Raises ValueError, and as `arrays`.
    """
    model_class, settings_class = classes(settings)
    model = model_class(settings_class.from_dict(settings))
    weights = outline(base) if is_outline else arrays(base)
    if hasattr(model, "sanitize"):
        weights = model.sanitize(weights)

    def packing(path: str, module: nn.Module) -> Any:
        is_packed = hasattr(module, "to_quantized") and f"{path}.biases" in weights
        return utils.infer_quant_config(path, module, weights) if is_packed else False

    nn.quantize(model, class_predicate=packing)
    six_bit.put_into(model, weights)
    half_precision.put_into(model, weights)
    model.eval()
    model.load_weights(list(weights.items()))
    return model


def arrays(base: GgufBase, *, packed: bool | None = None) -> dict[str, mx.array]:
    """The weights by name; of packed ones three: `weight`, `scales`, and `biases` or `block_scales`.

    packed: whether what can be packed is, else as fits the device. Raises BaseFileChanged,
    GgufUnreadable, QuantizerUnusable.
    """
    tensors = _tensors(base)
    packed = _stays_packed(tensors) if packed is None else packed
    to_weight = [np.argsort(order) for order in base.orders]

    def read(name: str) -> tuple[str, dict[str, mx.array]]:
        stored = base.weights[name]
        order = EVERYTHING if stored.order < 0 else to_weight[stored.order]
        return name, _read(name, tensors[name], order, stored.added, packed)

    weights: dict[str, mx.array] = {}
    with ThreadPoolExecutor(cores.usable()) as pool:
        unpacked = []
        for name in base.weights:
            # Drives are fastest in the file's order, and when they never wait for what is unpacked.
            tensors[name].data.reshape(-1)[:: mmap.PAGESIZE].max()
            unpacked.append(pool.submit(read, name))
        for name, parts in (done.result() for done in unpacked):
            kind, shape = _float_type(tensors[name], packed), tensors[name].shape
            for path, array in parts.items():
                is_plain = len(parts) == 1
                weights[path] = array.reshape(shape).astype(kind) if is_plain else array
    return weights


@contextlib.contextmanager
def reading_ahead(folder: Path) -> Iterator[None]:
    """Have the system read a GGUF base's file from its beginning on, while something else is done."""
    base, is_over = gguf_base.read(folder), threading.Event()

    def read(file: Path) -> None:
        data = gguf_reader.mapped(file)
        for start in range(0, data.size, AHEAD_BYTES):
            if not is_over.is_set():
                data[start : start + AHEAD_BYTES : mmap.PAGESIZE].max()

    beside = ThreadPoolExecutor(1)
    if base is not None:
        beside.submit(read, base.file)
    try:
        yield
    finally:
        is_over.set()
        beside.shutdown(wait=False)


def outline(base: GgufBase) -> dict[str, mx.array]:
    """Zeros in the shapes of `arrays`, which are not computed before they are used.

    Raises as `arrays`.
    """
    tensors = _tensors(base)
    packed = _stays_packed(tensors)
    weights: dict[str, mx.array] = {}
    for name, tensor in tensors.items():
        parts = _read(name, tensor, slice(1), 0.0, packed)
        if len(parts) == 1:
            weights[name] = mx.zeros(tensor.shape, _float_type(tensor, packed))
            continue
        for path, array in parts.items():
            weights[path] = mx.zeros((len(tensor.data), array.shape[1]), array.dtype)
    return weights


def _read(
    name: str, tensor: StoredTensor, rows: RowIndex, added: float, packed: bool
) -> dict[str, mx.array]:
    """A weight's chosen rows: its one array, or those of its packed form."""
    if packed and tensor.kind in PACKED:
        module = name.removesuffix(".weight")
        parts = backend.chosen().packed(tensor, rows)
        return {f"{module}.{part}": array for part, array in parts.items()}
    if added:
        return {name: mx.array(tensor.values(rows) - np.float32(added))}
    halves = backend.chosen().halves
    if halves and _stays_half(tensor):
        return {name: halves(tensor, rows)}
    return {name: backend.chosen().dequantized(tensor, rows)}


def loaded_bytes(base: GgufBase) -> int:
    """What the weights take once loaded. Raises BaseFileChanged, GgufUnreadable."""
    tensors = _tensors(base)
    packed = _stays_packed(tensors)
    total = 0
    for tensor in tensors.values():
        values = len(tensor.data) * tensor.shape[-1]
        if packed and tensor.kind in PACKED:
            total += packed_bytes(tensor.kind, values)
        else:
            total += values * _float_type(tensor, packed).size
    return total


def _tensors(base: GgufBase) -> dict[str, StoredTensor]:
    """The file's tensors, by the names of the weights that they are."""
    base.require_in_place()
    stored = gguf_reader.read_tensors(base.file)
    try:
        return {name: stored[weight.tensor] for name, weight in base.weights.items()}
    except KeyError as error:
        reason = _("重み {name} がありません。").format(name=error.args[0])
        raise BaseFileChanged(path=base.path, reason=reason) from error


def _stays_packed(tensors: Mapping[str, StoredTensor]) -> bool:
    """As `unpacking` has it for all packed weights."""
    if mx.default_device() != mx.cpu:
        return True
    values = sum(len(tensor.data) * tensor.shape[-1] for tensor in tensors.values())
    return not unpacking.fits(values)


def _stays_half(tensor: StoredTensor) -> bool:
    """A matrix on a CPU, whose products can be computed from it as it is; not a stack of experts' ones."""
    is_half = tensor.kind in (Type.F16, Type.BF16) and len(tensor.shape) == MATRIX
    return is_half and mx.default_device() == mx.cpu and backend.chosen().halves is not None


def _float_type(tensor: StoredTensor, packed: bool) -> mx.Dtype:
    """Vectors go with the activations, which are float32 where scales are."""
    is_float32 = mx.default_device() == mx.cpu or (packed and len(tensor.shape) == 1)
    if is_float32 and not _stays_half(tensor):
        return mx.float32
    return mx.float16 if tensor.kind == Type.F16 else mx.bfloat16
