"""ggml's quantization kernels over ctypes. Tested once per process before first use.

Rows are independent: any split by rows gives the same bytes, and ctypes releases the GIL, so
callers may quantize blocks of rows in threads. Knows nothing of files or of whole models.
"""

from __future__ import annotations

import ctypes
import functools

import numpy as np
from gguf import GGML_QUANT_SIZES, dequantize
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from mlx_finetuning.errors import NonFiniteWeights, QuantizerUnusable
from mlx_finetuning.language import _
from mlx_finetuning.utils import llama_library as library

SELF_TEST_ERROR = {
    Type.F32: 0.0,
    Type.F16: 5e-4,
    Type.BF16: 4e-3,
    Type.Q8_0: 0.01,
    Type.Q6_K: 0.03,
    Type.Q5_K: 0.06,
    Type.Q4_K: 0.12,
    Type.Q5_1: 0.06,
    Type.Q5_0: 0.07,
    Type.Q4_0: 0.14,
    Type.IQ4_NL: 0.12,
    Type.IQ4_XS: 0.12,
    Type.Q3_K: 0.25,
    Type.Q2_K: 0.4,
}
"""Every type this module writes, with the largest error of the self-test relative to the RMS."""


def row_bytes(kind: Type, columns: int) -> int:
    """Bytes of one row; `columns` is a multiple of the type's block."""
    block, size = GGML_QUANT_SIZES[kind]
    return columns // block * size


def block_size(kind: Type) -> int:
    """Columns that are quantized together."""
    return GGML_QUANT_SIZES[kind][0]


Importance = NDArray[np.float32]
"""[columns]: the mean square of what each column of a weight is multiplied with."""


def quantize(
    rows: NDArray[np.float32], kind: Type, importance: Importance | None = None
) -> NDArray[np.uint8]:
    """rows: [n, columns], C-contiguous float32; returns the bytes, [n, row_bytes].

    importance: errors in these columns weigh so much; Q8_0 and unquantized types ignore it.
    Raises NonFiniteWeights (without a tensor name) when a value or a scale is not finite.
    """
    # K-quants make ordinary scales of some NaNs; only looking at the input finds them all.
    if not np.isfinite(rows).all():
        raise NonFiniteWeights(tensor="")
    return _quantize(_kernels(), rows, kind, importance)


def kernel(rows: NDArray[np.float32], kind: Type) -> NDArray[np.uint8]:
    """`quantize` without looking at the input: what the kernel alone does."""
    return _quantize(_kernels(), rows, kind)


def is_valid(data: NDArray[np.uint8], kind: Type) -> bool:
    """Whether quantized bytes hold finite scales and values only."""
    return bool(_kernels().ggml_validate_row_data(kind, data.ctypes.data, data.nbytes))


def _quantize(
    kernels: ctypes.CDLL,
    rows: NDArray[np.float32],
    kind: Type,
    importance: Importance | None = None,
) -> NDArray[np.uint8]:
    count, columns = rows.shape
    result = np.empty((count, row_bytes(kind, columns)), np.uint8)
    weights = None if importance is None else importance.ctypes.data
    source, target = rows.ctypes.data, result.ctypes.data
    kernels.ggml_quantize_chunk(kind, source, target, 0, count, columns, weights)
    if not kernels.ggml_validate_row_data(kind, result.ctypes.data, result.nbytes):
        raise NonFiniteWeights(tensor="")
    return result


_KIND, _POINTER, _COUNT, _SIZE = ctypes.c_int, ctypes.c_void_p, ctypes.c_int64, ctypes.c_size_t
_SIGNATURES: library.Signatures = {
    "ggml_type_name": (ctypes.c_char_p, [_KIND]),
    "ggml_row_size": (_SIZE, [_KIND, _COUNT]),
    # source (float32) and target; first value, rows, columns; importance (float32) or NULL
    "ggml_quantize_chunk": (_SIZE, [_KIND, *[_POINTER] * 2, *[_COUNT] * 3, _POINTER]),
    "ggml_validate_row_data": (ctypes.c_bool, [_KIND, _POINTER, _SIZE]),
}


@functools.cache
def _kernels() -> ctypes.CDLL:
    """The library with its signatures declared, after the self-test. Raises QuantizerUnusable."""
    kernels = library.load()
    library.declare(kernels, _SIGNATURES)
    sample = np.sin(np.arange(1024, dtype=np.float32) ** 1.5).reshape(4, 256)
    # Name, size and numbers of each type, against gguf's own NumPy dequantization.
    for kind, bound in SELF_TEST_ERROR.items():
        name = kernels.ggml_type_name(kind).decode().upper()
        if name != kind.name.upper() or kernels.ggml_row_size(kind, 256) != row_bytes(kind, 256):
            raise QuantizerUnusable(
                reason=_("{name} の番号か大きさが合いません。").format(name=kind.name)
            )
        restored = dequantize(_quantize(kernels, sample, kind), kind).reshape(sample.shape)
        error = float(np.sqrt(np.mean((restored - sample) ** 2) / np.mean(sample**2)))
        if not error <= bound:
            raise QuantizerUnusable(
                reason=_("{name} の自己診断の誤差が {error:.3g} です。").format(
                    name=kind.name, error=error
                )
            )
    return kernels
