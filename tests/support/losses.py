"""Losses of batches as one number, to compare with others'."""

from __future__ import annotations

from typing import cast

import mlx.core as mx
import mlx.nn as nn

from mlx_finetuning.mlx_trainer.batches.batches import Batch
from mlx_finetuning.mlx_trainer.gradient import loss


def of_batch(model: nn.Module, batch: Batch) -> mx.array:
    """Nats per supervised target."""
    return loss.summed(model, batch) / batch.supervised


def corpus_loss(model: nn.Module, batches: list[Batch]) -> float:
    """Nats per supervised target over all of `batches`."""
    total = sum(cast(float, loss.summed(model, batch).item()) for batch in batches)
    return total / sum(batch.supervised for batch in batches)
