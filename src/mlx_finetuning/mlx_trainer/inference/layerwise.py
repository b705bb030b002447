"""What a model predicts, computed layer by layer: its weights are never in memory together.

They stay in their files until their layer is reached and are let go behind it, so that a model
much larger than the memory can be asked. All sequences pass a layer together, padded on the right,
which a causal model does not notice. Tells, if asked, how much each input of the linear layers
is used. Nothing is generated or trained.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.tuner.dora import DoRALinear
from mlx_lm.tuner.lora import LoRALinear
from numpy.typing import NDArray

from mlx_finetuning.language import N_, _
from mlx_finetuning.mlx_trainer.model import split_head
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, load
from mlx_finetuning.mlx_trainer.model.patching import Proxy
from mlx_finetuning.progress import Progress, Step, silent

STAGE = N_("学習したモデルの予測")
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
    by_index: dict[int, NDArray[np.float32]] = {}
    for indices in _passes(sequences):
        loaded = load(folder, adapter, lazy=True)
        values = _pass(loaded, [sequences[index] for index in indices], progress, layers)
        by_index |= zip(indices, values, strict=True)
    return [by_index[index] for index in range(len(sequences))]


def importance(
    folder: Path, adapter: Path | None, sequences: Sequence[list[int]], progress: Progress = silent
) -> dict[str, NDArray[np.float32]]:
    """The mean square of every input of the linear layers, over all tokens, [columns].

    By the weights' names (`model.layers.0.mlp.up_proj.weight`); the output head is not among them,
    as in llama.cpp's matrices. Raises ModelUnloadable, Interrupted.
    """
    squares: dict[str, mx.array] = {}
    for indices in _passes(sequences):
        loaded = load(folder, adapter, lazy=True)
        _pass(loaded, [sequences[index] for index in indices], progress, None, squares)
    tokens = sum(map(len, sequences))
    return {name: np.array(total / tokens) for name, total in squares.items()}


def _passes(sequences: Sequence[list[int]]) -> Iterator[list[int]]:
    """Indices of sequences that are computed together: of similar length."""
    together: list[int] = []
    for index in sorted(range(len(sequences)), key=lambda index: len(sequences[index])):
        if together and (len(together) + 1) * len(sequences[index]) > POSITIONS:
            yield together
            together = []
        together.append(index)
    if together:
        yield together


def _pass(
    loaded: LoadedModel,
    sequences: list[list[int]],
    progress: Progress,
    layers: int | None,
    squares: dict[str, mx.array] | None = None,
) -> list[NDArray[np.float32]]:
    """Logits of sequences that pass each layer together; their inputs' squares go to `squares`."""
    length = max(map(len, sequences))
    real = mx.array(
        [row * length + at for row, tokens in enumerate(sequences) for at in range(len(tokens))]
    )
    body = split_head.body(loaded.model)
    if squares is not None:
        for number in range(len(body.layers[:layers])):
            _watch(body.layers[number], f"model.layers.{number}", real, squares)
    count = len(body.layers[:layers])
    # No name here may hold the blocks: each is freed once it has computed.
    body.layers = [
        _computed_once(block, functools.partial(progress, Step(_(STAGE), done, count)))
        for done, block in enumerate(body.layers[:layers], 1)
    ]
    name = split_head.norm_name(body)
    norm = getattr(body, name)

    def of_real(hidden: mx.array) -> mx.array:
        """The last norm, and so the head, sees real positions only."""
        return norm(hidden.reshape(-1, hidden.shape[-1])[real])[None]  # type: ignore[no-any-return]

    setattr(body, name, Proxy(norm, of_real))
    padded = [tokens + [0] * (length - len(tokens)) for tokens in sequences]
    values = loaded.model(mx.array(padded))[0].astype(mx.float32)  # [real positions, vocabulary]
    return np.split(np.array(values, copy=False), np.cumsum([len(one) for one in sequences])[:-1])


def _computed_once(block: nn.Module, done: Callable[[], None]) -> Proxy:
    """A block whose weights live only while it computes, which it does once."""
    waiting = [block]

    def call(*values: Any, **named: Any) -> Any:
        result = waiting.pop()(*values, **named)
        mx.eval(result)
        proxy.release()
        done()
        return result

    proxy = Proxy(block, call)
    return proxy


def _watch(module: nn.Module, path: str, real: mx.array, squares: dict[str, mx.array]) -> None:
    """Let every linear layer in `module` add the squares of its inputs, [columns], to `squares`."""
    for name, child in module.children().items():
        inner = f"{path}.{name}"
        if isinstance(child, LINEAR):
            call = functools.partial(_add_squares, child, f"{inner}.weight", real, squares)
            setattr(module, name, Proxy(child, call))
        elif isinstance(child, nn.Module):
            _watch(child, inner, real, squares)


def _add_squares(
    linear: nn.Module, name: str, real: mx.array, squares: dict[str, mx.array], values: mx.array
) -> Any:
    rows = values.reshape(-1, values.shape[-1])[real]
    squares[name] = mx.square(rows).sum(axis=0) + squares.get(name, 0)
    mx.eval(squares[name])
    return linear(values)
