"""Cross-entropy over supervised targets, normalised per token over the whole update."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from mlx_finetuning.mlx_trainer.batches import Batch


def mean_loss(model: nn.Module, tokens: mx.array, targets: mx.array, mask: mx.array) -> mx.array:
    """tokens, targets: [examples, length] int32; mask: [examples, length] bool.

    Returns nats per supervised target (a float32 scalar). Follows mlx-lm's default loss, but for
    the mask, which comes from the chat template's assistant turns.
    """
    logits = model(tokens).astype(mx.float32)
    losses = nn.losses.cross_entropy(logits, targets)
    mean: mx.array = (losses * mask).sum() / mask.sum()
    return mean


def corpus_loss(model: nn.Module, batches: list[Batch]) -> float:
    """Nats per supervised target over all of `batches`; NaN without any target."""
    total, count = 0.0, 0
    for batch in batches:
        loss = mean_loss(model, batch.tokens, batch.targets, batch.mask)
        total += float(mx.array(loss).item()) * batch.supervised  # type: ignore[arg-type]
        count += batch.supervised
    return total / count if count else float("nan")
