"""NEFTune: uniform noise on the embeddings of training examples (Jain et al., 2023).

A token's embedding [d_model] of an example of L tokens gets noise in ±alpha / sqrt(L * d_model).
What is drawn follows from the update's seed, so a resumed run draws the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_finetuning.mlx_trainer.batches.batches import Batch
from mlx_finetuning.mlx_trainer.model import split_head
from mlx_finetuning.mlx_trainer.model.patching import Proxy, replaced


@contextmanager
def noise(model: nn.Module, batch: Batch, alpha: float) -> Iterator[None]:
    """Inside, the model's embeddings of `batch` are noisy; nothing happens for an alpha of 0."""
    if not alpha:
        yield
        return
    body = split_head.body(model)
    name = split_head.embedding_name(body)
    embedding = body[name]
    roots = alpha * _inverse_roots(batch)

    def noisy(tokens: mx.array) -> mx.array:
        hidden = cast(mx.array, embedding(tokens))  # [examples, length, d_model]
        bounds = roots / math.sqrt(hidden.shape[-1])
        drawn = mx.random.uniform(-1.0, 1.0, hidden.shape) * bounds[..., None]
        return hidden + drawn.astype(hidden.dtype)

    # As an output head the embedding is as it was.
    with replaced(body, name, Proxy(embedding, noisy)):
        yield


def _inverse_roots(batch: Batch) -> mx.array:
    """[examples, length] or [1, tokens]: 1 / sqrt(L) of the example a token belongs to."""
    sequences, length = batch.tokens.shape
    if batch.lengths is not None:
        lengths = np.array(batch.lengths, np.float32)
        return mx.array(np.repeat(lengths**-0.5, batch.lengths)[None])
    if batch.spans is None:
        return mx.full((sequences, length), length**-0.5)
    return mx.rsqrt((batch.spans.ends - batch.spans.starts).astype(mx.float32))[None]
