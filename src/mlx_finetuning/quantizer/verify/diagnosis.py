"""Names what is wrong with a file's weights, where `fidelity` only says how far off they are.

Two faults have a signature: an adapter that was added with a wrong factor, and tensors that took
each other's place. Reads the rows that `fidelity` reads; judges nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlx_finetuning.quantizer.families import recipe
from mlx_finetuning.quantizer.formats import gguf_reader
from mlx_finetuning.quantizer.formats.gguf_reader import Gguf, StoredTensor
from mlx_finetuning.quantizer.verify import tensor_error
from mlx_finetuning.quantizer.write import export
from mlx_finetuning.quantizer.write.export import Source

MAX_SCALE_ERROR = 0.1
"""Quantization shrinks values by about 1%; a wrong alpha, rank or root is far from that."""
NAMED = 3
"""Tensors that are named; of more, only the number is told."""


def problems(gguf: Path, model: Path, adapter: Path) -> list[str]:
    """In Japanese, what is wrong with the weights of `gguf`. Raises GgufUnreadable."""
    file, config = gguf_reader.read(gguf), export.read_config(model)
    tuned = export.sources(model, config, adapter)
    scale = adapter_scale(file, export.sources(model, config, None), tuned)
    if abs(scale - 1) > MAX_SCALE_ERROR:
        return [_scale_problem(scale)]
    errors = tensor_error.errors(file, tuned)
    wrong = [source for source in tuned if tensor_error.is_wrong(file, source.name, errors)]
    exchanged = _exchanged(file, wrong)
    rest = [source.name for source in wrong if source.name not in {*exchanged}]
    found = [
        f"重み {first} の場所に {second} が入っています。" for first, second in exchanged.items()
    ]
    if rest:
        more = f" など{len(rest)}個" if len(rest) > NAMED else ""
        found.append(f"重み {'、'.join(rest[:NAMED])}{more}が、学習したモデルと違います。")
    return found


def adapter_scale(file: Gguf, base: Sequence[Source], tuned: Sequence[Source]) -> float:
    """The factor by which the adapter's change is in the file: 1 is right, 0 is a file without it.

    The median over tensors, so that a few wrong ones do not pass for a wrong factor. 1 where the
    adapter changes nothing that the file has. Weights that had four bits in the base do not count:
    many lie just on a step of another coarse type, and a small change is rounded away there.
    """
    pairs = (
        (file.tensors.get(after.name), before, after)
        for before, after in zip(base, tuned, strict=True)
    )
    scales = [
        scale
        for stored, before, after in pairs
        if stored is not None and stored.shape == after.shape and len(after.shape) > 1
        if before.four_bit is None or stored.kind in recipe.UNQUANTIZED
        if (scale := _scale(stored, before, after)) is not None
    ]
    return float(np.median(scales)) if scales else 1.0


def _scale(stored: StoredTensor, before: Source, after: Source) -> float | None:
    """For one tensor, by least squares; None where the adapter does not change it."""
    rows = tensor_error.sampled_rows(stored)
    plain = _values(before, rows)
    change = _values(after, rows) - plain
    square = float(np.vdot(change, change))
    found = stored.values(rows).astype(np.float64) - plain
    return float(np.vdot(found, change)) / square if square else None


def _values(source: Source, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    chosen = rows if source.order is None else source.order[rows]
    return source.read(chosen).astype(np.float64)


def _exchanged(file: Gguf, wrong: Sequence[Source]) -> dict[str, str]:
    """Of tensors that are wrong, those that hold the values of another one: place → content."""
    found: dict[str, str] = {}
    for place in wrong:
        for content in wrong:
            same_shape = content.shape == place.shape and content is not place
            if same_shape and tensor_error.matches(file.tensors[place.name], content):
                found[place.name] = content.name
    return found


def _scale_problem(scale: float) -> str:
    if abs(scale) < MAX_SCALE_ERROR:
        return "学習した変化（アダプター）が入っていません。"
    return f"アダプターの倍率が、正しい値の{scale:.2f}倍です。"
