"""Updates' worth of examples in an order that the seed fixes, as padded arrays.

Padding is to the right, so under a causal mask no example sees it, and it is never supervised.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from mlx_finetuning.mlx_trainer.examples import Example

LENGTH_STEP = 16
"""Row lengths are rounded up to this, so that few shapes occur."""


@dataclass(frozen=True)
class Batch:
    tokens: mx.array
    """[examples, length] int32: inputs."""
    targets: mx.array
    """[examples, length] int32: the next token."""
    mask: mx.array
    """[examples, length] bool: whether the target is supervised."""
    supervised: int
    """Targets that count."""
    rows: tuple[int, ...]
    """Source rows of the examples."""


def batch_of(examples: Sequence[Example]) -> Batch:
    longest = max(len(example.tokens) for example in examples) - 1
    length = -(-longest // LENGTH_STEP) * LENGTH_STEP
    tokens = np.zeros((len(examples), length + 1), np.int32)
    mask = np.zeros((len(examples), length + 1), np.bool_)
    for index, example in enumerate(examples):
        tokens[index, : len(example.tokens)] = example.tokens
        mask[index, : len(example.tokens)] = example.supervised
    return Batch(
        mx.array(tokens[:, :-1]),
        mx.array(tokens[:, 1:]),
        mx.array(mask[:, 1:]),
        int(mask[:, 1:].sum()),
        tuple(example.row for example in examples),
    )


def endless(examples: Sequence[Example], batch_size: int, seed: int) -> Iterator[Batch]:
    """Batches of `batch_size` examples, or of all where there are fewer, epoch after epoch.

    Each epoch is shuffled by the seed and its number. An epoch's last examples that do not fill
    a batch open the next epoch, so none is left out and every update has the same size.
    """
    size = min(batch_size, len(examples))
    waiting: list[Example] = []
    epoch = 0
    while True:
        order = np.random.default_rng((seed, epoch)).permutation(len(examples))
        waiting += [examples[index] for index in order]
        while len(waiting) >= size:
            yield batch_of(waiting[:size])
            del waiting[:size]
        epoch += 1


def once(examples: Sequence[Example], batch_size: int) -> Iterator[Batch]:
    """Every example once, the shortest first, so that little is padded."""
    ordered = sorted(examples, key=lambda example: len(example.tokens))
    for start in range(0, len(ordered), batch_size):
        yield batch_of(ordered[start : start + batch_size])
