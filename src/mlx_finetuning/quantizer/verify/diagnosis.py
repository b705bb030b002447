"""Names what is wrong with a file's weights, where `tensor_error` only says how far off they are.

Two faults have a signature: an adapter that was added with a wrong factor, and tensors that took
each other's place. Reads the rows that `tensor_error` reads; judges nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlx_finetuning.language import _
from mlx_finetuning.quantizer.families import tensor_types
from mlx_finetuning.quantizer.verify import tensor_error
from mlx_finetuning.quantizer.write import export
from mlx_finetuning.quantizer.write.export import TensorSource
from mlx_finetuning.utils import gguf_reader
from mlx_finetuning.utils.gguf_reader import Gguf

MAX_SCALE_ERROR = 0.1
"""Quantization shrinks values by about 1%; a wrong alpha, rank or root is far from that."""
NAMED = 3
"""Tensors that are named; of more, only the number is told."""


def problems(gguf: Path, model: Path, adapter: Path) -> list[str]:
    """In Japanese, what is wrong with the weights of `gguf`. Raises GgufUnreadable."""
    file, config = gguf_reader.read(gguf), export.read_config(model)
    tuned = export.sources(model, config, adapter)
    scale = adapter_scale(file, export.sources(model, config, None), tuned)
    if abs(scale) < MAX_SCALE_ERROR:
        return [_("学習した変化（アダプター）が入っていません。")]
    if abs(scale - 1) > MAX_SCALE_ERROR:
        return [_("アダプターの倍率が、正しい値の{scale:.2f}倍です。").format(scale=scale)]
    errors = tensor_error.errors(file, tuned)
    wrong = [source for source in tuned if tensor_error.is_wrong(file, source.name, errors)]
    exchanged = {
        source.name: other.name
        for source in wrong
        for other in wrong
        if other.shape == source.shape
        and other is not source
        and tensor_error.matches(file.tensors[source.name], other)
    }
    lines = [
        _("重み {name} の場所に {other} が入っています。").format(name=name, other=other)
        for name, other in exchanged.items()
    ]
    rest = [source.name for source in wrong if source.name not in exchanged]
    if rest:
        names = _("、").join(rest[:NAMED])
        if len(rest) > NAMED:
            told = _("重み {names} など{count}個が、学習したモデルと違います。")
        else:
            told = _("重み {names}が、学習したモデルと違います。")
        lines.append(told.format(names=names, count=len(rest)))
    return lines


def adapter_scale(file: Gguf, base: Sequence[TensorSource], tuned: Sequence[TensorSource]) -> float:
    """The factor by which the adapter's change is in the file: 1 is right, 0 is a file without it.

    By least squares for each tensor; the median over tensors, so that a few wrong ones do not pass
    for a wrong factor. 1 where the adapter changes nothing that the file has.
    """
    scales = []
    for before, after in zip(base, tuned, strict=True):
        stored = file.tensors.get(after.name)
        if stored is None or stored.shape != after.shape or len(after.shape) < 2:
            continue
        # Many weights that were quantized in the base lie just on a step of another coarse type,
        # and a small change is rounded away there.
        if before.stored is not None and stored.kind not in tensor_types.UNQUANTIZED:
            continue
        rows = tensor_error.sampled_rows(stored)
        untuned = _values(before, rows)
        change = _values(after, rows) - untuned
        written = stored.values(rows).astype(np.float64) - untuned
        if square := float(np.vdot(change, change)):
            scales.append(float(np.vdot(written, change)) / square)
    return float(np.median(scales)) if scales else 1.0


def _values(source: TensorSource, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    chosen = rows if source.order is None else source.order[rows]
    return source.read(chosen).astype(np.float64)
