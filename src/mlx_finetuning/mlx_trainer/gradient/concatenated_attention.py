"""Several examples in one sequence without padding, none seeing another.

Everything but attention works position by position and takes the sequence as it is (but for short
convolutions, see `separated_convolution`). Attention is done example by example: while a model runs
inside `separated`, our functions replace the two that mlx-lm's model classes take from its `base`
module. Rotary positions need no change, because only their differences matter; scales of queries
by their position are taken per example. `is_exact` tells by trying whether a model class can be run
this way.
"""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models import switch_layers

from mlx_finetuning.mlx_trainer.gradient import separated_convolution
from mlx_finetuning.mlx_trainer.kernels import backend, cpu
from mlx_finetuning.mlx_trainer.model import frozen_linear, split_head
from mlx_finetuning.mlx_trainer.model.patching import (
    ATTENTION,
    GELU,
    MASK,
    POSITION_SCALE,
    RMS_NORM,
    ROPE,
    SWIGLU,
    Proxy,
    computed,
    replaced,
)


@dataclass(frozen=True)
class Causal:
    """Stands for a mask; its array is made per example, where one is needed at all."""

    window: int | None
    """Positions a query sees, its own included; None is all before it."""

    def array(self, length: int) -> mx.array:
        """[queries, keys]: whether a query sees a key."""
        at = mx.arange(length)
        seen = at[:, None] >= at[None]  # [queries, keys]
        if self.window is not None:
            seen &= at[:, None] < at[None] + self.window
        return seen

    def cheapest(self, length: int) -> Any:
        """What `mx.fast.scaled_dot_product_attention` takes for it."""
        return "causal" if self.window is None or length <= self.window else self.array(length)


def _mask(
    hidden: mx.array, cache: Any = None, window_size: int | None = None, return_array: bool = False
) -> Causal:
    return Causal(window_size)


def _attend_apart(
    attention: nn.Module, spans: Sequence[slice], x: mx.array, mask: Causal, cache: Any = None
) -> mx.array:
    """An attention that has its scores inline: the whole module, example by example."""
    parts = [
        attention(x[:, span], mask.array(span.stop - span.start), cache)  # [1, length, d_model]
        for span in spans
    ]
    return mx.concatenate(parts, axis=1)


def _attending(lengths: Sequence[int]) -> Callable[..., mx.array]:
    def attend(
        queries: mx.array,
        keys: mx.array,
        values: mx.array,
        cache: Any,
        scale: float,
        mask: Causal,
        sinks: mx.array | None = None,
    ) -> mx.array:
        if mx.default_device() == mx.cpu and queries.dtype == mx.float32 and sinks is None:
            whole = backend.chosen().attention
            return whole(queries, keys, values, scale, mask.window, lengths)

        def one(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
            shape = mask.cheapest(q.shape[2])
            return mx.fast.scaled_dot_product_attention(
                q, k, v, scale=scale, mask=shape, sinks=sinks
            )

        return cpu.by_example(one, lengths, queries, keys, values)

    return attend


def scale_at(positions: mx.array) -> Callable[..., mx.array]:
    """mlx-lm's function of the same form, for tokens at these positions in their own examples."""

    def scale(size: int, offset: Any, beta: float, period: int) -> mx.array:
        return (1 + beta * mx.log(1 + mx.floor(positions / period)))[:, None]

    return scale


@contextmanager
def separated(model: nn.Module, lengths: Sequence[int]) -> Iterator[None]:
    """Inside, `model` takes one sequence [1, sum of lengths] as examples of these lengths."""
    ends = list(itertools.accumulate(lengths))
    spans = [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]
    scale = scale_at(mx.concatenate([mx.arange(length) for length in lengths]))
    with ExitStack() as changes:
        numbers = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        changes.enter_context(separated_convolution.separated(model, mx.array(numbers)))
        if mx.default_device() == mx.cpu:
            fast = backend.chosen()
            changes.enter_context(frozen_linear.on_cpu())
            changes.enter_context(replaced(mx.fast, ROPE, fast.rope))
            changes.enter_context(replaced(mx.fast, RMS_NORM, fast.rms_norm))
            changes.enter_context(replaced(nn, GELU, fast.gelu))
            changes.enter_context(replaced(switch_layers, SWIGLU, fast.swiglu))
        attending = [layer for layer in computed(model.layers) if hasattr(layer, "self_attn")]
        owners = (split_head.body(model), *(layer.self_attn for layer in attending))
        for module in {sys.modules[type(owner).__module__] for owner in owners}:
            changes.enter_context(replaced(module, MASK, _mask))
            changes.enter_context(replaced(module, ATTENTION, _attending(lengths)))
            changes.enter_context(replaced(module, POSITION_SCALE, scale))
            if mx.default_device() == mx.cpu:
                changes.enter_context(replaced(module, SWIGLU, backend.chosen().swiglu))
        for layer in attending:
            if not hasattr(sys.modules[type(layer.self_attn).__module__], ATTENTION):
                apart = functools.partial(_attend_apart, layer.self_attn, spans)
                proxy = Proxy(layer.self_attn, apart, is_parent=True)
                changes.enter_context(replaced(layer, "self_attn", proxy))
        yield


def is_exact(model: nn.Module, vocabulary: int) -> bool:
    """Whether two examples in a sequence give what each gives alone, tried on a few tokens."""
    known = (
        hasattr(layer, "self_attn") or separated_convolution.has_one(layer)
        for layer in model.layers
    )
    if not split_head.is_separable(model) or not all(known):
        return False
    try:
        return gives_the_same(model, vocabulary, separated(model, (7, 5)))
    except (AttributeError, TypeError, ValueError, KeyError):
        return False


def gives_the_same(model: nn.Module, vocabulary: int, apart: AbstractContextManager[None]) -> bool:
    """Whether, with `apart` around it, a sequence of 7 and 5 tokens gives what the two give alone."""
    tokens = mx.arange(12)[None] % vocabulary
    with apart:
        together = model(tokens)
    alone = mx.concatenate([model(tokens[:, :7]), model(tokens[:, 7:])], axis=1)
    tolerance = 1e-4 if together.dtype == mx.float32 else 5e-2
    return bool(mx.abs(together - alone).max() <= tolerance * mx.abs(alone).max())
