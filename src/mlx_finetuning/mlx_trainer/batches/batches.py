"""Updates' worth of examples in an order that the seed fixes, as arrays.

Padded: a sequence per example. Padding is to the right, so under a causal mask no example sees it,
and it is never supervised. Concatenated: all examples in one sequence, nothing padded or rounded.
Packed: all examples in one sequence of a rounded length, told apart by spans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import mlx.core as mx
import numpy as np

from mlx_finetuning.mlx_trainer.batches.examples import Example
from mlx_finetuning.mlx_trainer.kernels.cuda_kernels import Spans

LENGTH_STEP = 16
"""Padded lengths are rounded up to this, so that few shapes occur."""
POSITION_STEP = 32
"""Numbers of supervised positions are rounded up to this."""
PACKED_STEP = 256
"""A packed sequence's length and its number of positions are rounded up to this, of a long one its number
of positions to an eighth of its length: each shape is compiled anew."""
PACKED_TOKENS = 1280
"""Tokens of a packed sequence, unless one example is longer: what is kept for the backward pass grows
with them, scores with their square."""
WIDE_TOKENS = (8192, 4096, 2048)
"""Tokens of a packed sequence where memory allows it and no scores are kept: a GPU is faster with an update
in one sequence."""

CONCATENATED_TOKENS = 512
"""Tokens of concatenated examples, unless one is longer. Longer sequences are no faster on a
CPU, and what is kept for the backward pass grows with them."""


class Sized(Protocol):
    """What a batch layout needs to know of an example or a pair."""

    @property
    def tokens(self) -> list[int]: ...
    @property
    def row(self) -> int: ...


E = TypeVar("E", bound=Sized)


@dataclass(frozen=True)
class Batch:
    """Examples as arrays, and where in them the loss is computed."""

    tokens: mx.array
    """[sequences, length] int32."""
    positions: mx.array
    """[positions] int32: where, in the flattened tokens, the next token is supervised. Rounded up
    with repetitions of position 0."""
    targets: mx.array
    """[positions] int32: those next tokens."""
    weights: mx.array
    """[positions] float32: 1, and 0 for what rounding added."""
    supervised: int
    """Targets that count."""
    rows: tuple[int, ...]
    """Rows of the dataset that the examples came from."""
    lengths: tuple[int, ...] | None = None
    """Lengths of the examples that share one sequence; None where each has its own."""
    spans: Spans | None = None
    """Which example of a packed sequence a token belongs to; None if not packed."""
    reference: mx.array | None = None
    """[positions, d_model]: the base's hidden states, of examples that are learned from them."""

    @property
    def arrays(self) -> tuple[mx.array, mx.array, mx.array, mx.array]:
        """What a loss is a function of."""
        return self.tokens, self.positions, self.targets, self.weights


def padded(examples: Sequence[Example]) -> Batch:
    """A sequence per example [examples, length]."""
    length = _rounded(max(len(example.tokens) for example in examples) - 1, LENGTH_STEP)
    tokens = np.zeros((len(examples), length + 1), np.int32)
    supervised = np.zeros((len(examples), length + 1), np.bool_)
    for index, example in enumerate(examples):
        tokens[index, : len(example.tokens)] = example.tokens
        supervised[index, : len(example.tokens)] = example.supervised
    positions = np.flatnonzero(supervised[:, 1:])
    added = _rounded(len(positions), POSITION_STEP) - len(positions)
    return Batch(
        mx.array(tokens[:, :-1]),
        mx.array(np.pad(positions, (0, added)).astype(np.int32)),
        mx.array(np.pad(tokens[:, 1:].flat[positions], (0, added))),
        mx.array(np.pad(np.ones(len(positions), np.float32), (0, added))),
        len(positions),
        tuple(example.row for example in examples),
        reference=_reference(examples, added),
    )


def concatenated(examples: Sequence[Example]) -> Batch:
    """All examples in one sequence [1, tokens]; every position is unique and every weight 1."""
    supervised = np.concatenate([np.array(example.supervised[1:]) for example in examples])
    positions = np.flatnonzero(supervised)
    inputs = np.concatenate([np.array(example.tokens[:-1], np.int32) for example in examples])
    following = np.concatenate([np.array(example.tokens[1:], np.int32) for example in examples])
    return Batch(
        mx.array(inputs[None]),
        mx.array(positions.astype(np.int32)),
        mx.array(following[positions]),
        mx.ones(len(positions)),
        len(positions),
        tuple(example.row for example in examples),
        tuple(len(example.tokens) - 1 for example in examples),
        reference=_reference(examples),
    )


def packed(examples: Sequence[Example]) -> Batch:
    """All examples in one sequence [1, tokens], filled up with a span of its own."""
    exact = concatenated(examples)
    lengths = [len(example.tokens) - 1 for example in examples]
    more = _rounded(sum(lengths), PACKED_STEP) - sum(lengths)
    step = max(PACKED_STEP, (sum(lengths) + more) // 8 // PACKED_STEP * PACKED_STEP)
    unused = _rounded(exact.positions.size, step) - exact.positions.size
    return Batch(
        mx.pad(exact.tokens, [(0, 0), (0, more)]),
        mx.pad(exact.positions, (0, unused)),
        mx.pad(exact.targets, (0, unused)),
        mx.pad(exact.weights, (0, unused)),
        exact.supervised,
        exact.rows,
        spans=Spans.of([*lengths, more]),
        reference=_reference(examples, unused),
    )


def membership(examples: Sequence[Example], batch: Batch) -> mx.array:
    """[examples, positions] float32: 1 where a target of `batch`, made of them, is of an example."""
    # Targets come example by example; what rounding added behind them belongs to none.
    owners = np.repeat(np.arange(len(examples)), [example.targets for example in examples])
    shares = np.zeros((len(examples), batch.positions.size), np.float32)
    shares[owners, np.arange(len(owners))] = 1.0
    return mx.array(shares)


def _reference(examples: Sequence[Example], added: int = 0) -> mx.array | None:
    """[targets + added, d_model]: of all targets in their order, zeros behind them."""
    if examples[0].reference is None:
        return None
    states = np.concatenate([example.reference for example in examples])
    return mx.array(np.pad(states, ((0, added), (0, 0))))


BuildBatch = Callable[[Sequence[Example]], Batch]
"""Examples as arrays."""


@dataclass(frozen=True)
class BatchLayout:
    """How the examples of a batch stand in its array."""

    build: Callable[[Sequence[Any]], Any]
    """Examples to a `Batch`, pairs to a `PairBatch`, judged answers to a `JudgedBatch`."""
    batch_tokens: int | None = None
    """Tokens that examples sharing a sequence may have together; None where each has its own."""
    step: int = 1
    """Tokens to a multiple of which a shared sequence is filled up."""

    @property
    def shares_sequence(self) -> bool:
        """Whether examples stand behind one another in one sequence."""
        return self.batch_tokens is not None

    def grouped(self, examples: Sequence[E]) -> list[list[E]]:
        """The examples of each batch: first fit, the longest first. A batch holds `batch_tokens`, or the
        longest example; without shared sequences all are one batch. Batches that are filled up are of
        much the same length, for a GPU's host takes as long for a short one."""
        if self.batch_tokens is None:
            return [list(examples)]
        ordered = sorted(examples, key=lambda item: (-len(item.tokens), item.row))
        capacity = max(self.batch_tokens, len(ordered[0].tokens))
        filled: list[list[E]] = []
        for example in ordered:
            left = capacity - len(example.tokens)
            group = next((group for group in filled if _length(group) <= left), None)
            if group is None:
                filled.append([example])
            else:
                group.append(example)
        even: list[list[E]] = [[] for _ in filled]
        for example in ordered if self.step > 1 else ():
            min(even, key=_length).append(example)
        return even if 0 < max(map(_length, even)) <= capacity else filled


PADDED = BatchLayout(padded)
CONCATENATED = BatchLayout(concatenated, CONCATENATED_TOKENS)
"""For the CPU."""
PACKED = BatchLayout(packed, PACKED_TOKENS, PACKED_STEP)
"""For a GPU."""


def _length(examples: Sequence[Sized]) -> int:
    return sum(len(example.tokens) for example in examples)


def _rounded(count: int, step: int) -> int:
    return -(-count // step) * step


def endless(count: int, batch_size: int, seed: int, start: int = 0) -> Iterator[list[int]]:
    """Indices of the examples of each update, from update `start` (the first is 0) on, for ever.

    Each epoch is shuffled by the seed and its number. An epoch's last examples that do not fill
    a batch open the next epoch, so none is left out and every update has the same size.
    """
    size = min(batch_size, count)
    epoch, skipped = divmod(start * size, count)
    waiting: list[int] = []
    while True:
        waiting += np.random.default_rng((seed, epoch)).permutation(count).tolist()[skipped:]
        while len(waiting) >= size:
            yield waiting[:size]
            del waiting[:size]
        epoch, skipped = epoch + 1, 0


def once(examples: Sequence[Any], batch_size: int, layout: BatchLayout = PADDED) -> Iterator[Any]:
    """Every example once, the shortest first, so that little is padded."""
    ordered = sorted(examples, key=lambda example: len(example.tokens))
    for start in range(0, len(ordered), batch_size):
        for group in layout.grouped(ordered[start : start + batch_size]):
            yield layout.build(group)
