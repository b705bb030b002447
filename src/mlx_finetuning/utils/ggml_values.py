"""ggml's own dequantization over ctypes, many times as fast as NumPy's.

Every type is tried against gguf's NumPy code once per process before its first use. Releases the GIL.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, dequantize
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from mlx_finetuning.errors import QuantizerUnusable
from mlx_finetuning.language import _
from mlx_finetuning.utils import llama_library

_TRIAL_BLOCKS = 8


class _Traits(ctypes.Structure):
    """The first fields of ggml's `ggml_type_traits`."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("block", ctypes.c_int64),
        ("interleave", ctypes.c_int64),
        ("size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
    )


def values(rows: NDArray[np.uint8], kind: Type) -> NDArray[np.float32]:
    """rows: [n, bytes] → [n, columns]. Raises QuantizerUnusable, NotImplementedError for a type
    that ggml does not dequantize."""
    return _dequantized(np.ascontiguousarray(rows), kind, _function(kind))


def address(kind: Type) -> int | None:
    """Where ggml's function of the type lies, `void (const void* blocks, float* values, int64_t count)`;
    None where there is none. Raises QuantizerUnusable."""
    try:
        return ctypes.cast(_function(kind), ctypes.c_void_p).value  # type: ignore[arg-type]
    except NotImplementedError:
        return None


def _dequantized(
    rows: NDArray[np.uint8], kind: Type, to_float: Callable[..., None]
) -> NDArray[np.float32]:
    block, size = GGML_QUANT_SIZES[kind]
    result = np.empty((len(rows), rows.shape[1] // size * block), np.float32)
    to_float(rows.ctypes.data, result.ctypes.data, result.size)
    return result


@functools.cache
def _function(kind: Type) -> Callable[..., None]:
    """ggml's function of the type, tried out. Raises QuantizerUnusable, NotImplementedError."""
    functions = llama_library.load()
    llama_library.declare(
        functions, {"ggml_get_type_traits": (ctypes.POINTER(_Traits), [ctypes.c_int])}
    )
    traits: Any = functions.ggml_get_type_traits(int(kind)).contents
    block, size = GGML_QUANT_SIZES[kind]
    if (traits.name.decode().upper(), traits.block, traits.size) != (kind.name, block, size):
        raise QuantizerUnusable(
            reason=_("{name} の番号か大きさが合いません。").format(name=kind.name)
        )
    to_float: Callable[..., None] | None = traits.to_float or None
    if to_float is None:
        raise NotImplementedError(kind.name)
    sample = np.random.default_rng(0).integers(0, 256, (1, _TRIAL_BLOCKS * size), np.uint8)
    try:
        with np.errstate(all="ignore"):
            expected = dequantize(sample, kind)
    except NotImplementedError:
        return to_float  # only ggml knows the type
    if not np.array_equal(_dequantized(sample, kind, to_float), expected, equal_nan=True):
        raise QuantizerUnusable(reason=_("{name} の値が合いません。").format(name=kind.name))
    return to_float
