"""Short convolutions over time where several examples share a sequence: none reaches into another.

LFM2's blocks without attention mix each position with the two before it. A position's taps that lie
in another example count as zero, as they do before an example's start.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_finetuning.mlx_trainer.model.patching import Proxy, replaced


def _within_segments(convolution: nn.Conv1d, segments: mx.array, padded: mx.array) -> mx.array:
    """A depthwise convolution [1, tokens, channels] of one sequence `padded` on the left by one less than
    its taps, in which a tap that lies in another segment counts as zero."""
    weight = convolution.weight.squeeze(-1)  # [channels, taps]
    taps, length = weight.shape[1], segments.size
    total: mx.array = padded[:, taps - 1 :] * weight[:, -1]
    for back in range(1, taps):
        first = taps - 1 - back
        same = segments[back:] == segments[: length - back]
        own = mx.pad(same, (back, 0))[:, None]  # [tokens, 1]
        earlier = mx.where(own, padded[:, first : first + length], 0)
        total = total + earlier * weight[:, first]
    return total + convolution.bias if "bias" in convolution else total


@contextmanager
def separated(model: nn.Module, segments: mx.array) -> Iterator[None]:
    """Inside, short convolutions stay within their own segment of the one sequence.

    segments: [tokens], the number of each token's example; those of an example lie together.
    """
    with ExitStack() as changes:
        for layer in model.layers:
            if has_one(layer):
                convolution = layer.conv.conv
                call = functools.partial(_within_segments, convolution, segments)
                changes.enter_context(
                    replaced(layer.conv, "conv", Proxy(convolution, call, is_parent=True))
                )
        yield


def has_one(layer: Any) -> bool:
    """Whether a block has a short convolution as LFM2's, in the place of attention."""
    found = getattr(getattr(layer, "conv", None), "conv", None)
    return isinstance(found, nn.Conv1d) and found.weight.shape[-1] == 1
