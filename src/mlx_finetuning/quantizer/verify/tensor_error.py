"""Compares the values in a GGUF file with the weights they were made from, tensor by tensor.

Reads rows spread over each tensor, not all of them: an exchange, a wrong order of rows, a forgotten
adapter or a wrong norm shows in any row.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from mlx_finetuning.language import _
from mlx_finetuning.quantizer.write.export import TensorSource
from mlx_finetuning.utils.gguf_reader import Gguf, StoredTensor

ROWS = 32
"""Compared per tensor."""
BOUNDS = {
    Type.F32: 1e-6,
    Type.F16: 1e-3,
    Type.BF16: 6e-3,
    Type.Q8_0: 0.02,
    Type.Q6_K: 0.06,
    Type.MXFP4: 1e-6,
    Type.Q5_K: 0.1,
    Type.Q5_1: 0.1,
    Type.Q5_0: 0.12,
    Type.Q4_K: 0.2,
    Type.Q4_1: 0.2,
    Type.Q4_0: 0.25,
    Type.IQ4_NL: 0.2,
    Type.IQ4_XS: 0.2,
    Type.Q3_K: 0.4,
    Type.Q2_K: 0.65,
}
"""Largest error of a tensor relative to its root mean square; about twice what noise gives."""


def errors(gguf: Gguf, sources: Iterable[TensorSource]) -> dict[str, float]:
    """Relative error of every tensor that both have, in the same shape."""
    pairs = ((gguf.tensors.get(source.name), source) for source in sources)
    return {
        source.name: _error(stored, source)
        for stored, source in pairs
        if stored is not None and stored.shape == source.shape
    }


def largest_by_type(gguf: Gguf, errors: dict[str, float]) -> dict[str, float]:
    """Of each quantization type, the largest error of a tensor."""
    largest: dict[str, float] = {}
    for name, error in errors.items():
        kind = gguf.tensors[name].kind.name
        largest[kind] = max(largest.get(kind, 0.0), error)
    return largest


def problems(gguf: Gguf, errors: dict[str, float]) -> list[str]:
    """In Japanese, the tensors that are further off than their type explains."""
    return [
        _("重み {name} が元の重みと {error:.1%} 違います。").format(name=name, error=error)
        for name, error in errors.items()
        if is_wrong(gguf, name, errors)
    ]


def is_wrong(gguf: Gguf, name: str, errors: dict[str, float]) -> bool:
    """Whether a compared tensor is further off than its type explains."""
    return name in errors and not errors[name] <= BOUNDS.get(gguf.tensors[name].kind, np.inf)


def matches(stored: StoredTensor, source: TensorSource) -> bool:
    """Whether a tensor holds the values of `source`, which has its shape."""
    return _error(stored, source) <= BOUNDS.get(stored.kind, np.inf)


def sampled_rows(stored: StoredTensor) -> NDArray[np.intp]:
    """The rows that are compared, spread over the tensor."""
    return np.unique(np.linspace(0, len(stored.data) - 1, ROWS).astype(np.intp))


def _error(stored: StoredTensor, source: TensorSource) -> float:
    rows = sampled_rows(stored)
    if len(source.shape) == 1:
        order = slice(None) if source.order is None else source.order
        original = source.read(order).reshape(1, -1)
    else:
        original = source.read(rows if source.order is None else source.order[rows])
    written = stored.values(rows).reshape(original.shape).astype(np.float64)
    size = float(np.sqrt(np.mean(np.square(original, dtype=np.float64))))
    error = float(np.sqrt(np.mean((written - original) ** 2)))
    return error / size if size else error
