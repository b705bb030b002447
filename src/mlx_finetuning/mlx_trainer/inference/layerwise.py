"""What a model predicts, computed layer by layer: its weights are never in memory together.

They stay in their files until their layer is reached and are let go behind it, so that a model
much larger than the memory can be asked. All sequences pass a layer together, padded on the right,
which a causal model does not notice. Tells, if asked, how much each input of the linear layers
is used. Nothing is generated or trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.tuner.dora import DoRALinear
from mlx_lm.tuner.lora import LoRALinear
from numpy.typing import NDArray

from mlx_finetuning.mlx_trainer.model import split_head
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, load
from mlx_finetuning.progress import Progress, Step, silent

STAGE = "学習したモデルの予測"
POSITIONS = 2048
"""Computed in one pass, padding included; bounds the memory of activations."""
LINEAR = (nn.Linear, nn.QuantizedLinear, LoRALinear, DoRALinear)


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
        texts = [sequences[one] for one in chosen]
        found |= zip(
            chosen, _pass(load(folder, adapter, lazy=True), texts, progress, layers), strict=True
        )
    return [found[number] for number in range(len(sequences))]


def importance(
    folder: Path, adapter: Path | None, sequences: Sequence[list[int]], progress: Progress = silent
) -> dict[str, NDArray[np.float32]]:
    """The mean square of every input of the linear layers, over all tokens, [columns].

    By the weights' names (`model.layers.0.mlp.up_proj.weight`); the output head is not among them,
    as in llama.cpp's matrices. Raises ModelUnloadable, Interrupted.
    """
    usage = _Usage()
    for chosen in _passes(sequences):
        texts = [sequences[one] for one in chosen]
        _pass(load(folder, adapter, lazy=True), texts, progress, None, usage)
    total = sum(map(len, sequences))
    return {name: np.array(squares / total) for name, squares in usage.squares.items()}


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
    loaded: LoadedModel,
    sequences: list[list[int]],
    progress: Progress,
    layers: int | None,
    usage: _Usage | None = None,
) -> list[NDArray[np.float32]]:
    longest = max(map(len, sequences))
    real = [row * longest + at for row, one in enumerate(sequences) for at in range(len(one))]
    chosen = mx.array(real)
    body = split_head.body(loaded.model)
    _prepare(body, chosen, progress, layers)
    if usage is not None:
        for number, layer in enumerate(body.layers):
            usage.watch(layer.layer, f"model.layers.{number}", chosen)
    padded = [one + [0] * (longest - len(one)) for one in sequences]
    values = loaded.model(mx.array(padded))[0].astype(mx.float32)
    whole = np.array(values, copy=False)
    return np.split(whole, np.cumsum([len(one) for one in sequences])[:-1])


def _prepare(body: nn.Module, real: mx.array, progress: Progress, count: int | None) -> None:
    """Make `body` compute its layers one after another, and go on with real positions only."""
    layers = body.layers[:count]
    total = len(layers)

    def report(done: int) -> Callable[[], None]:
        return lambda: progress(Step(STAGE, done, total))

    body.layers = [_Layer(layer, report(done)) for done, layer in enumerate(layers, 1)]
    name = split_head.norm_name(body)
    setattr(body, name, _Norm(getattr(body, name), real))


class _Layer:
    """A layer whose weights live only while it computes, which it does once."""

    def __init__(self, layer: nn.Module, done: Callable[[], None]) -> None:
        self.layer = layer
        self._done = done

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layer, name)

    def __call__(self, *values: Any, **named: Any) -> Any:
        result = self.layer(*values, **named)
        mx.eval(result)
        self.layer = nn.Module()
        self._done()
        return result


class _Usage:
    """Adds up the squares of what linear layers are given."""

    def __init__(self) -> None:
        self.squares: dict[str, mx.array] = {}

    def watch(self, module: nn.Module, path: str, real: mx.array) -> None:
        """Put a `_Watched` in the place of every linear layer; real: positions that count."""
        for name, child in module.children().items():
            inner = f"{path}.{name}"
            if isinstance(child, LINEAR):
                setattr(module, name, _Watched(child, self._adding(f"{inner}.weight", real)))
            elif isinstance(child, nn.Module):
                self.watch(child, inner, real)

    def _adding(self, name: str, real: mx.array) -> Callable[[mx.array], None]:
        def add(values: mx.array) -> None:
            chosen = values.reshape(-1, values.shape[-1])[real]
            squares = mx.square(chosen).sum(axis=0) + self.squares.get(name, 0)
            mx.eval(squares)
            self.squares[name] = squares

        return add


class _Watched:
    """A linear layer that shows what it is given."""

    def __init__(self, linear: nn.Module, show: Callable[[mx.array], None]) -> None:
        self._linear = linear
        self._show = show

    def __getattr__(self, name: str) -> Any:
        return getattr(self._linear, name)

    def __call__(self, values: mx.array) -> Any:
        self._show(values)
        return self._linear(values)


class _Norm:
    """The last norm, of the real positions: the head computes nothing for padding."""

    def __init__(self, norm: nn.Module, real: mx.array) -> None:
        self._norm = norm
        self._real = real

    def __call__(self, values: mx.array) -> mx.array:
        chosen = values.reshape(-1, values.shape[-1])[self._real]
        normed: mx.array = self._norm(chosen)
        return normed[None]
