"""Several examples in one sequence, filled up to one of few lengths: the way of a GPU.

A GPU wants one large shape again and again, so sequences are filled up (`batches.packed`). Attention is done
example by example in kernels of our own (`kernels.cuda_kernels`) where the model's class allows it, and
elsewhere dense under a block-diagonal causal mask. Rotary positions need no change, because only their
differences matter.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_finetuning.mlx_trainer.gradient import separated_convolution
from mlx_finetuning.mlx_trainer.gradient.concatenated_attention import gives_the_same, scale_at
from mlx_finetuning.mlx_trainer.kernels import backend
from mlx_finetuning.mlx_trainer.kernels.backend import CardBackend
from mlx_finetuning.mlx_trainer.kernels.cuda_kernels import Spans
from mlx_finetuning.mlx_trainer.model import split_head
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

_BY_KERNELS = "_attends_by_kernels"
"""Attribute of a model that `is_exact` has tried the kernels on."""


@dataclass(frozen=True)
class Seen:
    """Which keys a query sees; its array is made where one is needed at all."""

    spans: Spans
    window: int | None
    """Positions a query sees, its own included; None is all before it in its example."""

    @functools.cached_property
    def array(self) -> mx.array:
        """[queries, keys]."""
        at = mx.arange(self.spans.starts.size)
        seen = (at[:, None] >= at[None]) & (at[None] >= self.spans.starts[:, None])
        return seen if self.window is None else seen & (at[:, None] < at[None] + self.window)


def uses_kernels(model: nn.Module) -> bool:
    """Whether attention of packed sequences is done by kernels of our own."""
    return bool(getattr(model, _BY_KERNELS, False))


@contextmanager
def separated(model: nn.Module, spans: Spans) -> Iterator[None]:
    """Inside, `model` takes one sequence [1, tokens] in which a token sees its own example only. The
    model's body has to take its mask from mlx-lm's `create_attention_mask`.
    """
    fast = backend.on_card() if uses_kernels(model) else None

    def mask(
        x: mx.array, cache: Any = None, window_size: int | None = None, return_array: bool = False
    ) -> Any:
        seen = Seen(spans, window_size)
        return seen.array if fast is None else seen

    scale = scale_at(mx.arange(spans.starts.size) - spans.starts)
    module = sys.modules[type(split_head.body(model)).__module__]
    with ExitStack() as changes:
        changes.enter_context(replaced(module, MASK, mask))
        changes.enter_context(replaced(module, POSITION_SCALE, scale))
        changes.enter_context(separated_convolution.separated(model, spans.numbers))
        if fast is not None:
            changes.enter_context(_by_kernels(model, fast))
        yield


@contextmanager
def _by_kernels(model: nn.Module, fast: CardBackend) -> Iterator[None]:
    """Inside, attention takes `Seen` for its mask."""

    def attend(
        queries: mx.array,
        keys: mx.array,
        values: mx.array,
        cache: Any,
        scale: float,
        mask: Seen,
        sinks: mx.array | None = None,
    ) -> mx.array:
        if sinks is None and fast.attends(queries, values):
            return fast.attention(queries, keys, values, mask.spans, scale, mask.window)
        return mx.fast.scaled_dot_product_attention(
            queries, keys, values, scale=scale, mask=mask.array, sinks=sinks
        )

    with ExitStack() as changes:
        changes.enter_context(replaced(mx.fast, ROPE, fast.rope))
        changes.enter_context(replaced(mx.fast, RMS_NORM, fast.rms_norm))
        changes.enter_context(replaced(nn, GELU, fast.gelu))
        attending = [layer for layer in computed(model.layers) if hasattr(layer, "self_attn")]
        for module in {sys.modules[type(layer.self_attn).__module__] for layer in attending}:
            changes.enter_context(replaced(module, ATTENTION, attend))
            changes.enter_context(replaced(module, SWIGLU, fast.swiglu))
        for layer in attending:
            inner = layer.self_attn
            if not hasattr(sys.modules[type(inner).__module__], ATTENTION):
                proxy = Proxy(inner, _with_inline_scores(inner, fast), is_parent=True)
                changes.enter_context(replaced(layer, "self_attn", proxy))
        yield


def _with_inline_scores(attention: nn.Module, fast: CardBackend) -> Callable[..., mx.array]:
    """An attention that has its scores inline: Gemma 2's by kernels, others dense."""
    cap = getattr(attention, "attn_logit_softcapping", None)

    def call(x: mx.array, mask: Seen, cache: Any = None) -> mx.array:
        if cap is None or not fast.attends(
            x[:, None, :, : attention.head_dim], x[..., : attention.head_dim]
        ):
            dense: mx.array = attention(x, mask.array, cache)
            return dense
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        q, k, v = (
            project(x).reshape(*x.shape[:2], -1, attention.head_dim).swapaxes(1, 2)
            for project in projections
        )
        q, k = attention.rope(q), attention.rope(k)
        o = fast.attention(q, k, v, mask.spans, attention.scale, mask.window, cap)
        joined: mx.array = attention.o_proj(o.swapaxes(1, 2).reshape(*x.shape[:2], -1))
        return joined

    return call


def is_exact(model: nn.Module, vocabulary: int) -> bool:
    """Whether two examples in a sequence give what each gives alone, tried on a few tokens: by kernels where
    there are any, and if not by them, under a mask."""
    if not split_head.is_separable(model):
        return False
    spans = Spans.of((7, 5))
    if backend.on_card() is not None:
        setattr(model, _BY_KERNELS, True)
        try:
            if gives_the_same(model, vocabulary, separated(model, spans)):
                return True
        except (AttributeError, TypeError, ValueError, KeyError):
            pass
        setattr(model, _BY_KERNELS, False)
    return gives_the_same(model, vocabulary, separated(model, spans))
