"""Cross-entropy over supervised targets, normalised per token over the whole update."""

from __future__ import annotations

from typing import cast

import mlx.core as mx
import mlx.nn as nn

from mlx_finetuning.mlx_trainer import heads
from mlx_finetuning.mlx_trainer.batches import Batch


def mean_loss(
    model: nn.Module, tokens: mx.array, positions: mx.array, targets: mx.array, weights: mx.array
) -> mx.array:
    """Nats per supervised target (a float32 scalar); the arguments are `Batch`'s arrays.

    Logits are computed at the supervised positions only.
    """
    logits = heads.logits_at(model, tokens, positions).astype(mx.float32)
    losses = nn.losses.cross_entropy(logits, targets)
    mean: mx.array = (losses * weights).sum() / weights.sum()
    return mean


def of_batch(model: nn.Module, batch: Batch) -> mx.array:
    return mean_loss(model, batch.tokens, batch.positions, batch.targets, batch.weights)


def corpus_loss(model: nn.Module, batches: list[Batch]) -> float:
    """Nats per supervised target over all of `batches`; NaN without any target."""
    total, count = 0.0, 0
    for batch in batches:
        total += float(cast(float, of_batch(model, batch).item())) * batch.supervised
        count += batch.supervised
    return total / count if count else float("nan")
