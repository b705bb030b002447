"""MLX's own operations in the place of a GPU's kernels, on any machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models import activations

from mlx_finetuning.mlx_trainer.kernels import cuda_kernels
from mlx_finetuning.mlx_trainer.kernels.backend import CardBackend
from mlx_finetuning.mlx_trainer.kernels.cuda_kernels import GatedActivation, Spans


def example_by_example(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    spans: Spans,
    scale: float,
    window: int | None = None,
    cap: float = 0.0,
) -> mx.array:
    """What `cuda_kernels.attention` is to give, as its documentation says it."""
    repeats = queries.shape[1] // keys.shape[1]
    keys, values = (mx.repeat(array, repeats, axis=1) for array in (keys, values))
    scores = scale * (queries @ keys.swapaxes(-1, -2))
    if cap:
        scores = cap * mx.tanh(scores / cap)
    at = mx.arange(queries.shape[2])
    seen = (at[None] <= at[:, None]) & (at[None] >= spans.starts[:, None])
    if window is not None:
        seen &= at[None] > at[:, None] - window
    return mx.softmax(mx.where(seen, scores, -mx.inf), axis=-1) @ values


def columns(whole: mx.array, ends: tuple[int, ...]) -> Sequence[mx.array]:
    return [whole[..., begin:end] for begin, end in zip((0, *ends), ends, strict=False)]


def joined(arrays: Sequence[mx.array]) -> mx.array:
    return mx.concatenate([array.reshape(-1) for array in arrays])


class Noting(GatedActivation):
    """Of arrays that the kernels do not cover."""

    def __init__(self, name: str, own: GatedActivation, asked: list[str]) -> None:
        super().__init__(own.name, own.plain)
        self._note = partial(asked.append, name)

    def value(self, *arrays: mx.array) -> mx.array:
        self._note()
        return super().value(*arrays)

    def gradients(self, *values: Any) -> tuple[mx.array, mx.array]:
        self._note()
        return super().gradients(*values)


def card(asked: list[str]) -> CardBackend:
    """Writes down in `asked` what it is asked for."""

    def noting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any, **named: Any) -> Any:
            asked.append(name)
            return function(*values, **named)

        return call

    return CardBackend(
        attends=lambda queries, values: True,
        attention=noting("attention", example_by_example),
        rope=noting("rope", mx.fast.rope),
        rms_norm=noting("rms_norm", mx.fast.rms_norm),
        swiglu=noting("swiglu", activations.swiglu),
        gelu=noting("gelu", nn.gelu_approx),
        gated=(
            Noting("joint swiglu", cuda_kernels.SWIGLU, asked),
            Noting("joint geglu", cuda_kernels.GEGLU, asked),
        ),
        columns=noting("columns", columns),
        concatenated=noting("concatenated", joined),
    )
