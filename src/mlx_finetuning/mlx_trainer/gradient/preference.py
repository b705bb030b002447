"""Training on pairs of answers: DPO, ORPO and SimPO, on the same batches and logits as everything else.

DPO's reference is the model before its first update, when the adapter adds nothing: its
log-probabilities are computed once and kept with the pairs, so that no second copy of the weights
is needed. Losses are per pair; both answers of a pair are always in one batch. On a GPU examples
have sequences of their own and nothing is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import NothingToLearn
from mlx_finetuning.language import N_, _
from mlx_finetuning.mlx_trainer.batches import batches
from mlx_finetuning.mlx_trainer.batches.batches import Batch, BatchLayout, BuildBatch
from mlx_finetuning.mlx_trainer.batches.examples import Answers, CacheSlot, Example, pair, shortened
from mlx_finetuning.mlx_trainer.gradient import loss
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.progress import Progress, Step
from mlx_finetuning.tokenization.rows import Row

T = TypeVar("T")
STAGE = N_("学習前のモデルの確率")
_SUREST = -1e-6
"""Mean log-probability from which odds are no longer told apart."""


@dataclass(frozen=True)
class Pair(Answers):
    """A question with a better and a worse answer: one example of an update."""

    chosen: Example
    rejected: Example
    reference: tuple[float, float] = (0.0, 0.0)
    """Nats: log-probabilities of both answers before training."""
    cache_slot: CacheSlot | None = None
    """Outputs of lower blocks are not cached for pairs."""
    weight: int = 1

    @property
    def answers(self) -> tuple[Example, ...]:
        """Both."""
        return self.chosen, self.rejected


@dataclass(frozen=True)
class PairBatch:
    """Pairs as arrays."""

    batch: Batch
    """The answers one after the other: chosen, rejected, chosen, …"""
    membership: mx.array
    """[answers, positions] float32: 1 where a target is of an answer."""
    reference: mx.array
    """[pairs, 2] float32."""

    @property
    def supervised(self) -> int:
        """Pairs: what the loss is a mean over."""
        return int(self.reference.shape[0])

    @property
    def rows(self) -> tuple[int, ...]:
        """Rows of the dataset that the answers came from."""
        return self.batch.rows


def encode_pairs(loaded: LoadedModel, rows: Sequence[Row], max_length: int) -> list[Pair]:
    """Both answers of each row, cut to `max_length` tokens with their question. Rows of which an
    answer is cut away entirely are left out. Raises NothingToLearn if none is left."""
    limit = min(max_length, loaded.context_length)
    answers = [[shortened(one, limit) for one in pair(loaded, row)] for row in rows]
    pairs = [Pair(chosen, rejected) for chosen, rejected in answers]
    usable = [one for one in pairs if one.chosen.targets and one.rejected.targets]
    if rows and not usable:
        raise NothingToLearn(rows=len(rows), max_length=limit)
    return usable


# --- batches -----------------------------------------------------------------------------


def batch_of(build: BuildBatch, pairs: Sequence[Pair]) -> PairBatch:
    """Both answers of each pair, one after the other."""
    answers = [answer for pair in pairs for answer in pair.answers]
    batch = build(answers)
    reference = np.array([pair.reference for pair in pairs], np.float32)
    return PairBatch(batch, batches.membership(answers, batch), mx.array(reference))


# --- losses ------------------------------------------------------------------------------


def log_probabilities(
    model: nn.Module, pairs: PairBatch, options: loss.LossOptions = loss.PLAIN
) -> mx.array:
    """[pairs, 2] nats, summed over each answer's tokens."""
    nats = loss.each(model, pairs.batch, options)
    return -(pairs.membership @ nats).reshape(-1, 2)


PairLosses = Callable[[mx.array, PairBatch, TrainConfig], tuple[mx.array, mx.array]]
"""[pairs, 2] nats of both answers to [pairs] losses, and by how much the chosen one leads."""


def summed(
    of_pairs: PairLosses,
    model: nn.Module,
    pairs: PairBatch,
    config: TrainConfig,
    options: loss.LossOptions,
) -> mx.array:
    """[1 + MARKS] sums over all pairs: the loss, how often the chosen answer leads, and by how much."""
    nats = log_probabilities(model, pairs, options)
    losses, margins = of_pairs(nats, pairs, config)
    leads = (margins > 0).astype(mx.float32)
    return mx.stack([losses.sum(), leads.sum(), margins.sum()])


def dpo(nats: mx.array, pairs: PairBatch, config: TrainConfig) -> tuple[mx.array, mx.array]:
    """Rafailov et al. 2023, equation 7. Margins are between implicit rewards."""
    rewards = config.beta * (nats - pairs.reference)
    margins = rewards[:, 0] - rewards[:, 1]
    return -nn.log_sigmoid(margins), margins


def orpo(nats: mx.array, pairs: PairBatch, config: TrainConfig) -> tuple[mx.array, mx.array]:
    """Hong et al. 2024, equation 6, with the mean log-probability of a token as an answer's."""
    lengths = pairs.membership.sum(1).reshape(-1, 2)
    mean = nats / lengths  # [pairs, 2]
    capped = mx.minimum(mean, _SUREST)
    odds = capped - mx.log(-mx.expm1(capped))
    losses = -mean[:, 0] - config.beta * nn.log_sigmoid(odds[:, 0] - odds[:, 1])
    return losses, config.beta * (mean[:, 0] - mean[:, 1])


def simpo(nats: mx.array, pairs: PairBatch, config: TrainConfig) -> tuple[mx.array, mx.array]:
    """Meng et al. 2024, equation 6: no reference, the mean log-probability of a token as the reward,
    and a margin by which the better one has to lead."""
    rewards = config.beta * nats / pairs.membership.sum(1).reshape(-1, 2)
    margins = rewards[:, 0] - rewards[:, 1]
    return -nn.log_sigmoid(margins - config.gamma), margins


# --- the reference -----------------------------------------------------------------------


def parts(items: Sequence[T], at_once: int, progress: Progress) -> Iterator[Sequence[T]]:
    """So many at once of what the untrained model is asked about."""
    for start in range(0, len(items), at_once):
        progress(Step(_(STAGE), start, len(items)))
        yield items[start : start + at_once]


def with_reference(
    model: nn.Module,
    pairs: Sequence[Pair],
    batch_size: int,
    layout: BatchLayout,
    progress: Progress,
) -> list[Pair]:
    """The pairs with the log-probabilities that the untrained model gives them."""
    model.eval()
    referenced: list[Pair] = []
    for taken in parts(pairs, batch_size, progress):
        nats = cast(list[list[float]], log_probabilities(model, layout.build(taken)).tolist())
        referenced += [
            replace(pair, reference=(better, worse))
            for pair, (better, worse) in zip(taken, nats, strict=True)
        ]
    return referenced
