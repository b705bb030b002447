"""What a model predicts, computed layer by layer: its weights are never in memory together.

They stay in their files until their layer is reached and are let go behind it, so that a model
much larger than the memory can be asked. All sequences pass a layer together, padded on the right,
which a causal model does not notice. For predictions only; nothing is generated or trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_map
from numpy.typing import NDArray

from mlx_finetuning.mlx_trainer.load import LoadedModel, load
from mlx_finetuning.progress import Progress, Step, silent

STAGE = "学習したモデルの予測"
POSITIONS = 2048
"""Computed in one pass, padding included; bounds the memory of activations."""


def logits(
    folder: Path,
    adapter: Path | None,
    sequences: Sequence[list[int]],
    progress: Progress = silent,
    *,
    layers: int | None = None,
) -> list[NDArray[np.float32]]:
    """The prediction after every token of each sequence, [tokens, vocabulary].

    layers: only so many of the first ones. Raises ModelUnloadable, Interrupted.
    """
    found: dict[int, NDArray[np.float32]] = {}
    for chosen in _passes(sequences):
        loaded = load(folder, adapter, lazy=True)
        found |= zip(
            chosen,
            _pass(loaded, [sequences[one] for one in chosen], progress, layers),
            strict=True,
        )
    return [found[number] for number in range(len(sequences))]


def _passes(sequences: Sequence[list[int]]) -> Iterator[list[int]]:
    """Numbers of sequences that are computed together: of similar length."""
    chosen: list[int] = []
    for number in sorted(range(len(sequences)), key=lambda one: len(sequences[one])):
        if chosen and (len(chosen) + 1) * len(sequences[number]) > POSITIONS:
            yield chosen
            chosen = []
        chosen.append(number)
    if chosen:
        yield chosen


def _pass(
    loaded: LoadedModel, sequences: list[list[int]], progress: Progress, layers: int | None
) -> list[NDArray[np.float32]]:
    longest = max(map(len, sequences))
    real = [row * longest + at for row, one in enumerate(sequences) for at in range(len(one))]
    _prepare(loaded.model.model, real, progress, layers)
    padded = [one + [0] * (longest - len(one)) for one in sequences]
    values = loaded.model(mx.array(padded))[0].astype(mx.float32)
    whole = np.array(values, copy=False)
    return np.split(whole, np.cumsum([len(one) for one in sequences])[:-1])


def _prepare(body: nn.Module, real: list[int], progress: Progress, count: int | None) -> None:
    """Make `body` compute its layers one after another, and go on with real positions only."""
    layers = body.layers[:count]

    def report(done: int) -> Callable[[], None]:
        return lambda: progress(Step(STAGE, done, len(layers)))

    body.layers = [_Layer(layer, report(done)) for done, layer in enumerate(layers, 1)]
    body.norm = _Norm(body.norm, mx.array(real))


class _Layer:
    """A layer whose weights live only while it computes."""

    def __init__(self, layer: nn.Module, done: Callable[[], None]) -> None:
        self._layer = layer
        self._done = done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def __call__(self, *values: Any, **named: Any) -> Any:
        result = self._layer(*values, **named)
        mx.eval(result)
        self._layer.update(tree_map(lambda weight: mx.zeros(0), self._layer.parameters()))
        self._done()
        return result


class _Norm:
    """The last norm, of the real positions: the head computes nothing for padding."""

    def __init__(self, norm: nn.Module, real: mx.array) -> None:
        self._norm = norm
        self._real = real

    def __call__(self, values: mx.array) -> mx.array:
        chosen = values.reshape(-1, values.shape[-1])[self._real]
        normed: mx.array = self._norm(chosen)
        return normed[None]
