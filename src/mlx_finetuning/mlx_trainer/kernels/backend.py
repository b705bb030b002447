"""The functions that training computes with: on a CPU C++ where it is built, on a GPU CUDA kernels, else
MLX's operations.

The one place that chooses. `PYTHON` is the reference that the C++ of `native/` is tested against, and
what runs without a compiler; what the C++ does not cover (other types and shapes) goes there too.
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.metadata
import importlib.util
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from gguf import GGMLQuantizationType as Type

from mlx_finetuning.mlx_trainer.kernels import cpu, cuda_kernels, gguf_blocks
from mlx_finetuning.mlx_trainer.kernels.cuda_kernels import GatedActivation
from mlx_finetuning.utils import blas, ggml_values, native_kernels
from mlx_finetuning.utils.gguf_reader import RowIndex, StoredTensor

_RMS_NORM, _GELU = mx.fast.rms_norm, nn.gelu_approx  # which others stand for


@dataclass(frozen=True)
class Backend:
    """Functions of the same arguments as those of mlx and mlx-lm that they stand for."""

    name: str
    linear: Callable[..., mx.array]
    """As `cpu.linear`."""
    attention: Callable[..., mx.array]
    """As `cpu.attention_apart`."""
    swiglu: Callable[..., mx.array]
    gelu: Callable[[mx.array], mx.array]
    rms_norm: Callable[[mx.array, mx.array | None, float], mx.array]
    rope: Callable[..., mx.array]
    cross_entropy: Callable[[mx.array, mx.array], mx.array]
    packed: Callable[[StoredTensor, RowIndex], dict[str, mx.array]]
    """As `gguf_blocks.packed`."""
    dequantized: Callable[[StoredTensor, RowIndex], mx.array]
    """As `StoredTensor.values`."""
    halves: Callable[[StoredTensor, RowIndex], mx.array] | None
    """Rows of an F16 or BF16 tensor as they are, which `linear` takes as weights; None where its products
    are of float32 only."""


def _packed(tensor: StoredTensor, rows: RowIndex) -> dict[str, mx.array]:
    arrays = gguf_blocks.packed(tensor.data, tensor.kind, rows)
    return {name: mx.array(array) for name, array in arrays.items()}


_SWIGLU = cast(Callable[..., mx.array], cpu.swiglu)
PYTHON = Backend(
    "python",
    cpu.linear,
    cpu.attention_apart,
    _SWIGLU,
    _GELU,
    _RMS_NORM,
    cpu.rope,
    cpu.cross_entropy,
    _packed,
    lambda tensor, rows: mx.array(tensor.values(rows)),
    # MLX would convert a whole weight for each product.
    halves=None,
)
FEWEST_ROWS = 16
"""Of a product whose matrices are worth being copied to where the processor likes them best."""
HALVES = (mx.float16, mx.bfloat16)


@functools.cache
def chosen() -> Backend:
    """The fastest that there is in this process."""
    if native_kernels.state() != "built":
        return PYTHON
    try:
        return load(str(native_kernels.library()))
    except (ImportError, TypeError) as error:
        logging.getLogger(__name__).warning("native kernels: %s", error)
        return PYTHON


def libraries() -> str:
    """What rounds a run's numbers, by version: with others, the last digits differ."""
    parts = [f"MLX {importlib.metadata.version('mlx')} {mx.default_device().type.name}"]
    if blas.preload().state == "loaded":
        parts.append(blas.preload().description)
    if chosen() is not PYTHON:
        parts.append(f"C++ {native_kernels.library().parent.name}")
    if on_card() is not None:
        parts.append(f"CUDA {cuda_kernels.digest()}")
    return ", ".join(parts)


@dataclass(frozen=True)
class CardBackend:
    """Functions of a GPU, each for what it covers; what it does not is left to MLX's own."""

    attends: Callable[[mx.array, mx.array], bool]
    """Of queries and values: whether `attention` covers them."""
    attention: Callable[..., mx.array]
    """As `cuda_kernels.attention`."""
    rope: Callable[..., mx.array]
    rms_norm: Callable[[mx.array, mx.array | None, float], mx.array]
    swiglu: Callable[[mx.array, mx.array], mx.array]
    gelu: Callable[[mx.array], mx.array]
    gated: tuple[GatedActivation, ...]
    """Those that an MLP may have."""
    columns: Callable[[mx.array, tuple[int, ...]], Sequence[mx.array]]
    """[..., outputs of several layers] and where each one's end, to what each gives."""
    concatenated: Callable[[Sequence[mx.array]], mx.array]
    """[elements] of arrays of one type."""


_CUDA = CardBackend(
    cuda_kernels.attends,
    cuda_kernels.attention,
    cuda_kernels.rope,
    cuda_kernels.rms_norm,
    cuda_kernels.swiglu,
    cuda_kernels.gelu,
    (cuda_kernels.SWIGLU, cuda_kernels.GEGLU),
    cuda_kernels.columns,
    cuda_kernels.concatenated,
)


def on_card() -> CardBackend | None:
    """The kernels for the GPU that MLX computes on; None without one, and where it is too old."""
    is_off = os.environ.get(native_kernels.OVERRIDE, "").strip() == "off"
    return None if is_off or not cuda_kernels.are_available() else _CUDA


def concatenated(arrays: Sequence[mx.array]) -> mx.array:
    """[elements] of all arrays in their order."""
    card = on_card()
    if card is not None and len({array.dtype for array in arrays}) == 1:
        return card.concatenated(arrays)
    return mx.concatenate([array.reshape(-1) for array in arrays])


def load(library: str) -> Backend:
    """The backend of a built library, which has computed something.

    Raises ImportError or TypeError for one that does not fit this MLX.
    """
    module = module_of(library)
    silu = module.swiglu(mx.ones(1, stream=mx.cpu), mx.ones(1, stream=mx.cpu)).item()
    if abs(silu - 0.7310586) > 1e-5:
        raise ImportError(f"silu(1) is not {silu}")
    return native(module)


def module_of(library: str) -> Any:
    """The Python module that a built library is."""
    loader = importlib.machinery.ExtensionFileLoader(native_kernels.MODULE, library)
    spec = importlib.util.spec_from_loader(native_kernels.MODULE, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def native(module: Any) -> Backend:
    """The functions of the C++ module, each behind what it does not cover."""

    def linear(
        x: mx.array, weight: mx.array, factors: tuple[mx.array, mx.array] | None, scale: float
    ) -> mx.array:
        is_half = weight.dtype in HALVES
        is_known = is_half or (weight.dtype == mx.float32 and x.shape[0] >= FEWEST_ROWS)
        if not is_known or _other_than_float32(x, *(factors or ())):
            return cpu.linear(x, weight, factors, scale)
        if factors is None:
            return cast(mx.array, module.linear(x, weight))
        return cast(mx.array, module.linear_with_factors(x, weight, *factors, scale))

    def attention(
        queries: mx.array,
        keys: mx.array,
        values: mx.array,
        scale: float,
        window: int | None,
        lengths: Sequence[int],
    ) -> mx.array:
        batch, _, _, size = queries.shape
        if batch != 1 or values.shape[-1] != size:
            return cpu.attention_apart(queries, keys, values, scale, window, lengths)
        return cast(
            mx.array, module.attention(queries, keys, values, list(lengths), scale, window or 0)
        )

    def gelu(x: mx.array) -> mx.array:
        return cast(mx.array, _GELU(x) if _other_than_float32(x) else module.gelu(x))

    def rms_norm(x: mx.array, weight: mx.array | None, eps: float) -> mx.array:
        if weight is None or _other_than_float32(x, weight):
            return _RMS_NORM(x, weight, eps)
        return cast(mx.array, module.rms_norm(x, weight, eps))

    def rope(x: mx.array, dims: int, **settings: Any) -> mx.array:
        tables = cpu.rope_tables(x, dims, **settings)
        if tables is None or x.ndim != 4 or x.shape[0] != 1:
            return cpu.rope(x, dims, **settings)
        return cast(mx.array, module.rotary(x, *tables))

    def packed(tensor: StoredTensor, rows: RowIndex) -> dict[str, mx.array]:
        numbers = np.arange(len(tensor.data))[rows]
        arrays = module.packed(int(tensor.kind), tensor.data, numbers)
        return dict(zip(gguf_blocks.parts(tensor.kind), arrays, strict=True))

    def dequantized(tensor: StoredTensor, rows: RowIndex) -> mx.array:
        function = ggml_values.address(tensor.kind)
        if function is None:
            return mx.array(tensor.values(rows))
        numbers = np.arange(len(tensor.data))[rows]
        return cast(mx.array, module.dequantized(tensor.data, numbers, tensor.shape[-1], function))

    def halves(tensor: StoredTensor, rows: RowIndex) -> mx.array:
        numbers = np.arange(len(tensor.data))[rows]
        return cast(mx.array, module.halves(tensor.data, numbers, tensor.kind == Type.F16))

    return Backend(
        "native",
        linear,
        attention,
        module.swiglu,
        gelu,
        rms_norm,
        rope,
        module.cross_entropy,
        packed,
        dequantized,
        halves,
    )


def _other_than_float32(*arrays: mx.array) -> bool:
    return any(array.dtype != mx.float32 for array in arrays)
