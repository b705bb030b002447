"""NEFTune: uniform noise on the embeddings of training examples (Jain et al., 2023).

A token's embedding [d_model] of an example of L tokens gets noise in ±alpha / sqrt(L * d_model).
What is drawn follows from the update's seed, so a resumed run draws the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_finetuning.mlx_trainer.batches.batches import Batch
from mlx_finetuning.mlx_trainer.gradient import concatenated_attention
from mlx_finetuning.mlx_trainer.model import split_head


class _Noisy(nn.Module):  # type: ignore[misc]
    """Stands for the embedding during one update; as a head it is as it was."""

    def __init__(self, embedding: nn.Module, bounds: mx.array) -> None:
        super().__init__()
        self.__dict__["_of"] = embedding
        self.__dict__["_bounds"] = bounds

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_of"], name)

    def __call__(self, tokens: mx.array) -> mx.array:
        hidden = cast(mx.array, self.__dict__["_of"](tokens))
        noise = mx.random.uniform(-1.0, 1.0, hidden.shape)
        bounds = self.__dict__["_bounds"] / math.sqrt(hidden.shape[-1])
        return cast(mx.array, hidden + (noise * bounds[..., None]).astype(hidden.dtype))


@contextmanager
def noise(model: nn.Module, batch: Batch, alpha: float) -> Iterator[None]:
    """Inside, the model's embeddings of `batch` are noisy; nothing happens for an alpha of 0."""
    if not alpha:
        yield
        return
    body = split_head.body(model)
    noisy = _Noisy(body.embed_tokens, alpha * _inverse_roots(batch))
    with concatenated_attention.replaced(body, "embed_tokens", noisy):
        yield


def _inverse_roots(batch: Batch) -> mx.array:
    """[examples, length] or [1, tokens]: 1 / sqrt(L) of the example a token belongs to."""
    rows, length = batch.tokens.shape
    if batch.lengths is not None:
        lengths = np.array(batch.lengths, np.float32)
        return mx.array(np.repeat(lengths**-0.5, batch.lengths)[None])
    if batch.segments is None:
        return mx.full((rows, length), length**-0.5)
    same = batch.segments[:, None] == batch.segments[None]
    return mx.rsqrt(same.sum(axis=-1).astype(mx.float32))[None]
