"""Several examples in one row under a block-diagonal causal mask: the way of a GPU.

A GPU wants one large shape again and again, and scores cost it little, so rows are filled up
(`batches.packed`) and attention is dense under a mask. The CPU goes example by example instead
(`concatenated_attention`). Rotary positions need no change, because only their differences matter.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_finetuning.mlx_trainer.gradient import separated_convolution
from mlx_finetuning.mlx_trainer.gradient.concatenated_attention import gives_the_same, scale_at
from mlx_finetuning.mlx_trainer.model import split_head
from mlx_finetuning.mlx_trainer.model.patching import MASK, POSITION_SCALE, replaced


@contextmanager
def separated(model: nn.Module, segments: mx.array) -> Iterator[None]:
    """Inside, `model` takes one row [1, tokens] in which a token sees its own segment only.

    segments: [tokens], the number of each token's example. The model's body has to take its mask
    from mlx-lm's `create_attention_mask`.
    """
    at = mx.arange(segments.size)
    own = (segments[:, None] == segments[None]) & (at[:, None] >= at[None])  # [queries, keys]

    def mask(
        x: mx.array, cache: Any = None, window_size: int | None = None, return_array: bool = False
    ) -> mx.array:
        return own if window_size is None else own & (at[:, None] < at[None] + window_size)

    # How many of its own segment, which lies in one piece, are before a token.
    scale = scale_at(own.sum(axis=1) - 1)
    module = sys.modules[type(split_head.body(model)).__module__]
    with (
        replaced(module, MASK, mask),
        replaced(module, POSITION_SCALE, scale),
        separated_convolution.separated(model, segments),
    ):
        yield


def is_exact(model: nn.Module, vocabulary: int) -> bool:
    """Whether two examples in a row give what each gives alone, tried on a few tokens."""
    segments = mx.array([0] * 7 + [1] * 5)
    return split_head.is_separable(model) and gives_the_same(
        model, vocabulary, separated(model, segments)
    )
