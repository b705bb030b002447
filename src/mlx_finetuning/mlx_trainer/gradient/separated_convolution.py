"""Short convolutions over time where several examples share a row: none reaches into another.

LFM2's blocks without attention mix each position with the two before it. A position's taps that lie
in another example count as zero, as they do before an example's start.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn


class _Apart(nn.Module):  # type: ignore[misc]
    """A depthwise convolution of one row that was padded on the left by one less than its taps."""

    def __init__(self, convolution: nn.Conv1d, segments: mx.array) -> None:
        super().__init__()
        self.convolution = convolution
        self._segments = segments

    def __call__(self, padded: mx.array) -> mx.array:
        weight = self.convolution.weight.squeeze(-1)  # [channels, taps]
        taps, length = weight.shape[1], self._segments.size
        total: mx.array = padded[:, taps - 1 :] * weight[:, -1]
        for back in range(1, taps):
            first = taps - 1 - back
            same = self._segments[back:] == self._segments[: length - back]
            own = mx.pad(same, (back, 0))[:, None]  # [length, 1]
            earlier = mx.where(own, padded[:, first : first + length], 0)
            total = total + earlier * weight[:, first]
        return total + self.convolution.bias if "bias" in self.convolution else total


@contextmanager
def separated(model: nn.Module, segments: mx.array) -> Iterator[None]:
    """Inside, short convolutions stay within their own segment of the one row.

    segments: [tokens], the number of each token's example; those of an example lie together.
    """
    with ExitStack() as changes:
        for layer in model.layers:
            if has_one(layer):
                changes.enter_context(_replaced(layer.conv, _Apart(layer.conv.conv, segments)))
        yield


@contextmanager
def _replaced(owner: Any, value: nn.Module) -> Iterator[None]:
    before = owner.conv
    owner.conv = value
    try:
        yield
    finally:
        owner.conv = before


def has_one(layer: Any) -> bool:
    """Whether a block has a short convolution as LFM2's, in the place of attention."""
    found = getattr(getattr(layer, "conv", None), "conv", None)
    return isinstance(found, nn.Conv1d) and found.weight.shape[-1] == 1
