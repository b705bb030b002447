"""Logits at chosen positions only: the final norm's output is gathered before the head.

What lies behind the norm (head, soft-caps, scalings) then applies to the gathered rows by itself,
for every model class of mlx-lm that keeps its blocks and a final norm in `.model`.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn


class _Gathering(nn.Module):  # type: ignore[misc]
    """Stands in for the final norm during one call: norms and keeps the chosen rows."""

    def __init__(self, norm: nn.Module, positions: mx.array) -> None:
        super().__init__()
        self.norm = norm
        self._positions = positions

    def __call__(self, hidden: mx.array) -> mx.array:
        rows = hidden.reshape(-1, hidden.shape[-1])[self._positions]
        return self.norm(rows[None])  # type: ignore[no-any-return]


def logits_at(model: nn.Module, tokens: mx.array, positions: mx.array) -> mx.array:
    """[positions, vocabulary] logits of `model` for `tokens` [examples, length].

    `positions` index the flattened [examples × length] tokens. Equal to gathering from the full
    logits, which are computed only where a model class has no final norm to stand in for.
    """
    body = _body(model)
    if body is None:
        logits: mx.array = model(tokens)
        return logits.reshape(-1, logits.shape[-1])[positions]
    norm = body.norm
    body.norm = _Gathering(norm, positions)
    try:
        return model(tokens)[0]  # type: ignore[no-any-return]
    finally:
        body.norm = norm


def _body(model: nn.Module) -> Any:
    """The part of `model` that ends with the norm named `norm`, or None."""
    body = getattr(model, "model", None)
    return body if isinstance(getattr(body, "norm", None), nn.Module) else None
