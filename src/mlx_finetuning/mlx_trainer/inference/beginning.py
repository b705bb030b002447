"""What many sequences begin with, read once: a copy of its caches goes on with each of them.

Copied, not cut back: a sliding window forgets what a cut would need. Where a model class computes
otherwise behind a cache, or brings none, nothing is shared.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import make_prompt_cache

from mlx_finetuning.mlx_trainer.batches import batches
from mlx_finetuning.mlx_trainer.batches.batches import BatchLayout
from mlx_finetuning.mlx_trainer.batches.examples import Example
from mlx_finetuning.mlx_trainer.gradient import concatenated_attention, loss

FEWEST = 64
"""Tokens; fewer are as soon read anew."""
AT_ONCE = 512
"""Tokens of one pass by MLX: bounds the scores of attention."""


@dataclass(frozen=True)
class Beginning:
    """The tokens that sequences have in common, and what the model keeps of them."""

    tokens: list[int]
    caches: list[Any]
    """mlx-lm's, one for each block. Never to be written to."""

    def rest(self, tokens: list[int]) -> list[int]:
        """What of a sequence is still to be read."""
        return tokens[len(self.tokens) :]

    def copied(self) -> list[Any]:
        """Caches that a sequence may go on with."""
        return copy.deepcopy(self.caches)


def read(
    model: nn.Module,
    sequences: Sequence[list[int]],
    layout: BatchLayout,
    measured: Callable[[int, int], None],
) -> Beginning | None:
    """The common beginning of `sequences`, which may be all of one of them; None where nothing is shared.

    layout: the model's; `measured` hears how many tokens are read, of how many, and may raise to cancel.
    """
    if not sequences:
        return None
    # What the first and the last in their order have in common, all have.
    pairs = zip(min(sequences), max(sequences), strict=False)
    tokens = [token for token, __ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)]
    if len(tokens) < FEWEST:
        return None
    ways = (True, False) if layout == batches.CONCATENATED else (False,)
    way = next((by_kernels for by_kernels in ways if is_exact(model, by_kernels)), None)
    if way is None:
        return None
    caches = make_prompt_cache(model)
    _fill(caches, model, tokens, way, measured)
    return Beginning(tokens, caches)


def _fill(
    caches: list[Any],
    model: Any,
    tokens: list[int],
    by_kernels: bool,
    measured: Callable[[int, int], None],
) -> None:
    """by_kernels: as a batch of one example, all in one pass: four times as fast as MLX on a CPU."""
    at_once = len(tokens) if by_kernels else AT_ONCE
    for start in range(0, len(tokens), at_once):
        part = tokens[start : start + at_once]
        apart = concatenated_attention.separated(model, (len(part),))
        with apart if by_kernels else contextlib.nullcontext():
            # No logits are computed: nobody asks for them.
            model(mx.array([part]), cache=caches)
            for at, cache in enumerate(caches):
                measured(start + len(part) * at // len(caches), len(tokens))
                mx.eval(cache.state)


def is_exact(model: Any, by_kernels: bool = False) -> bool:
    """Whether the model predicts the same behind a copied cache, tried on a few tokens."""
    tokens = list(range(1, 13))
    try:
        caches = make_prompt_cache(model)
        _fill(caches, model, tokens[:7], by_kernels, lambda done, total: None)
        behind = model(mx.array([tokens[7:]]), cache=copy.deepcopy(caches)).astype(mx.float32)
        whole = model(mx.array([tokens]))[:, 7:].astype(mx.float32)
    except (AttributeError, TypeError, ValueError, KeyError):
        return False
    # Half-precision sums differ by their order.
    tolerance = 1e-3 if mx.default_device() == mx.cpu else 2e-2
    return bool(mx.abs(behind - whole).max() <= tolerance * mx.abs(whole).max())


def before_targets(example: Example) -> list[int]:
    """The tokens behind which the example's first target is not yet predicted."""
    return example.tokens[: example.supervised.index(True, 1) - 1]


def losses(model: Any, example: Example, beginning: Beginning) -> list[float]:
    """Nats of each target of an example that begins so."""
    tokens = beginning.rest(example.tokens)
    supervised = beginning.rest(cast(list[int], example.supervised))
    positions = [at for at, is_target in enumerate(supervised[1:]) if is_target]
    logits = model(mx.array([tokens[:-1]]), cache=beginning.copied())[0, mx.array(positions)]
    targets = mx.array([tokens[at + 1] for at in positions])
    return cast(list[float], loss.cross_entropy(logits, targets).tolist())
