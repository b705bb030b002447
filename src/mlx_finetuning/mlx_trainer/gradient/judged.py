"""Training on answers that are marked one by one as good or bad: KTO (Ethayarajh et al. 2024).

A row is judged by how far training has moved its answer's log-probability away from the untrained
model's, against how far it moves answers in general: the drift, an estimate of the divergence of both
models from questions with answers to other ones. As in TRL each row has one such answer, fixed before
the first update, and the drift of an update is the mean over its rows, without a gradient. It is
computed for the whole update at once, without dropout, so that it does not depend on how the update is
divided. Nothing is compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import NothingToLearn
from mlx_finetuning.language import _
from mlx_finetuning.mlx_trainer.batches import batches
from mlx_finetuning.mlx_trainer.batches.batches import Batch, BatchLayout, BuildBatch
from mlx_finetuning.mlx_trainer.batches.examples import (
    Answers,
    CacheSlot,
    Example,
    sequences,
    shortened,
)
from mlx_finetuning.mlx_trainer.gradient import loss, preference
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.progress import Progress
from mlx_finetuning.tokenization.rows import Row
from mlx_finetuning.tokenization.turns import UNTRAINED

LEAST_RATIO, MOST_RATIO = 0.9, 1.5
"""Of the weights of good rows to those of bad ones: 1 to 4/3 in the paper (section 4.2), widened by a
tenth, so that a few rows more or less are no imbalance."""


@dataclass(frozen=True)
class Judged(Answers):
    """A question with an answer that is good or bad: one example of an update."""

    answer: Example
    mismatched: Example
    """The question with the answer to another one."""
    is_desirable: bool
    reference: float = 0.0
    """Nats: log-probability of the answer before training."""
    mismatched_reference: float = 0.0
    drift: float = 0.0
    """Nats: of the update it is computed in."""
    cache_slot: CacheSlot | None = None
    """Outputs of lower blocks are not cached for judged answers."""
    weight: int = 1

    @property
    def answers(self) -> tuple[Example, ...]:
        """Its own."""
        return (self.answer,)

    @property
    def content(self) -> tuple[object, ...]:
        """All that training depends on."""
        return (*self.answer.content, *self.mismatched.content, self.is_desirable)

    @property
    def elsewhere(self) -> Judged:
        """The question with the answer to another one in the place of its own."""
        return replace(self, answer=self.mismatched, reference=self.mismatched_reference)


@dataclass(frozen=True)
class JudgedBatch:
    """Judged answers as arrays."""

    batch: Batch
    membership: mx.array
    """[answers, positions] float32: 1 where a target is of an answer."""
    reference: mx.array
    """[answers] float32."""
    signs: mx.array
    """[answers] float32: 1 for a good answer, -1 for a bad one."""
    drift: float

    @property
    def supervised(self) -> int:
        """Answers: what the loss is a mean over."""
        return int(self.signs.size)

    @property
    def rows(self) -> tuple[int, ...]:
        """Rows of the dataset that the answers came from."""
        return self.batch.rows


# --- encoding ----------------------------------------------------------------------------


def encode(
    loaded: LoadedModel, rows: Sequence[Row], max_length: int, others: Sequence[Row]
) -> list[Judged]:
    """The last answer of each row, cut to `max_length` tokens with its question; mismatched ones are
    taken from `others`. Rows whose answer is cut away entirely are left out. Raises NothingToLearn if
    none is left."""
    limit = min(max_length, loaded.context_length)
    judged = [
        Judged(
            shortened(last_answer(loaded, row, row), limit),
            shortened(last_answer(loaded, row, _another(row, others, at)), limit),
            bool(row["label"]),
        )
        for at, row in enumerate(rows)
    ]
    usable = [one for one in judged if one.answer.targets]
    if rows and not usable:
        raise NothingToLearn(rows=len(rows), max_length=limit)
    return usable


def _another(row: Row, others: Sequence[Row], at: int) -> Row:
    """The next one in a circle that asks something else; any other one where all ask the same."""
    behind = [*others[(at + 1) % len(others) :], *others[: (at + 1) % len(others)]]
    asked = row["messages"][:-1]
    return next((other for other in behind if other["messages"][:-1] != asked), behind[0])


def last_answer(loaded: LoadedModel, row: Row, answered: Row) -> Example:
    """Of `answered`, as an answer to what `row` asks; answers before it are context."""
    asked = [
        {**turn, UNTRAINED[0]: UNTRAINED[1]} if turn["role"] == "assistant" else turn
        for turn in row["messages"][:-1]
    ]
    whole = cast(Row, {**row, "messages": [*asked, answered["messages"][-1]]})
    return sequences(loaded, whole)[-1]


def imbalance(judged: Sequence[Judged], config: TrainConfig) -> str:
    """In Japanese, what is to be said of rows of which one kind counts for too much; else nothing."""
    good = sum(one.is_desirable for one in judged)
    bad = len(judged) - good
    if not (good and bad):
        kind = "×" if bad else "○"
        return _("{mark} の付いた答えだけです。KTOには、○と×の両方が要ります。").format(mark=kind)
    desirable, undesirable = good * config.desirable_weight, bad * config.undesirable_weight
    if LEAST_RATIO * undesirable <= desirable <= MOST_RATIO * undesirable:
        return ""
    name = "undesirable_weight" if desirable > undesirable else "desirable_weight"
    balanced = max(good, bad) / min(good, bad)
    other = config.desirable_weight if desirable > undesirable else config.undesirable_weight
    return _(
        "○が{good:,}行、×が{bad:,}行で、片方に偏っています。{name} を {balanced:.2g} にすると釣り合います。"
    ).format(good=good, bad=bad, name=name, balanced=balanced * other)


# --- batches -----------------------------------------------------------------------------


def batch_of(build: BuildBatch, judged: Sequence[Judged]) -> JudgedBatch:
    """Their own answers, without the mismatched ones."""
    answers = [one.answer for one in judged]
    batch = build(answers)
    return JudgedBatch(
        batch,
        batches.membership(answers, batch),
        mx.array(np.array([one.reference for one in judged], np.float32)),
        mx.array(np.array([1 if one.is_desirable else -1 for one in judged], np.float32)),
        judged[0].drift,
    )


# --- loss --------------------------------------------------------------------------------


def log_ratios(
    model: nn.Module, judged: JudgedBatch, options: loss.LossOptions = loss.PLAIN
) -> mx.array:
    """[answers] nats by which the model holds each answer likelier than the untrained one did."""
    return -(judged.membership @ loss.each(model, judged.batch, options)) - judged.reference


def summed(
    model: nn.Module, judged: JudgedBatch, config: TrainConfig, options: loss.LossOptions
) -> mx.array:
    """[1 + MARKS] sums: the loss (equations 7 and 8), how many answers are on their side of the drift,
    and by how much (implicit rewards)."""
    margins = config.beta * judged.signs * (log_ratios(model, judged, options) - judged.drift)
    weights = mx.where(judged.signs > 0, config.desirable_weight, config.undesirable_weight)
    losses = weights * (1 - mx.sigmoid(margins))
    return mx.stack([losses.sum(), (margins > 0).astype(mx.float32).sum(), margins.sum()])


# --- what the untrained model says, and how far the model has moved from it ----------------


def with_reference(
    model: nn.Module,
    judged: Sequence[Judged],
    at_once: int,
    layout: BatchLayout,
    progress: Progress,
) -> list[Judged]:
    """With the log-probabilities that the untrained model gives to both answers of each."""
    model.eval()
    referenced: list[Judged] = []
    for taken in preference.parts(judged, at_once, progress):
        own = _log_ratios(model, taken, layout)
        other = _log_ratios(model, [one.elsewhere for one in taken], layout)
        referenced += [
            replace(one, reference=nats, mismatched_reference=elsewhere)
            for one, nats, elsewhere in zip(taken, own, other, strict=True)
        ]
    return referenced


def with_drift(
    model: nn.Module, judged: Sequence[Judged], at_once: int, layout: BatchLayout
) -> list[Judged]:
    """With the mean of the log-ratios of the mismatched answers; not below 0, as a divergence is not.
    Leaves the model in evaluation mode."""
    model.eval()
    others = [one.elsewhere for one in judged if one.mismatched.targets]
    ratios = [
        ratio
        for start in range(0, len(others), at_once)
        for ratio in _log_ratios(model, others[start : start + at_once], layout)
    ]
    drift = max(0.0, sum(ratios) / len(ratios)) if ratios else 0.0
    return [replace(one, drift=drift) for one in judged]


def _log_ratios(model: nn.Module, judged: Sequence[Judged], layout: BatchLayout) -> list[float]:
    """Of each, in their order, batch by batch."""
    found: dict[int, float] = {}
    for group in layout.grouped(judged):
        values = cast(list[float], log_ratios(model, layout.build(group)).tolist())
        found |= zip(map(id, group), values, strict=True)
    return [found[id(one)] for one in judged]
