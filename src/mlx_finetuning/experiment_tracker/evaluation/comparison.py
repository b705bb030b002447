"""Base and tuned model on the same rows: losses with paired intervals, answers with scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mlx_finetuning.experiment_tracker.evaluation.results import (
    AnswerFigures,
    Interval,
    LossFigures,
)
from mlx_finetuning.experiment_tracker.evaluation.statistics import ratio
from mlx_finetuning.tokenization.reasoning import answer_of
from mlx_finetuning.tokenization.rows import Row
from mlx_finetuning.utils import japanese_utils


class Grade(Protocol):
    """One row as one model knows it; what `mlx_trainer.inference.grade` measures."""

    @property
    def nats(self) -> float: ...
    @property
    def targets(self) -> int: ...
    @property
    def answer(self) -> str | None: ...
    @property
    def ended(self) -> bool: ...
    @property
    def reasoning(self) -> str: ...


@dataclass(frozen=True)
class Measured:
    """The same rows, in the same order, as both models know them."""

    rows: Sequence[Row]
    base: Sequence[Grade]
    tuned: Sequence[Grade]
    of_rows: int
    """Rows there were to choose from."""


@dataclass(frozen=True)
class Scores:
    """How near an answer is to the expected one; all from 0 to 1."""

    exact: float
    """Equal after NFKC and whitespace folding."""
    contains: float
    """The expected text occurs in the answer."""
    chrf: float
    rouge_l: float
    """Over characters."""


SCORES = tuple(Scores.__annotations__)


def score(answer: str, expected: str) -> Scores:
    """All scores of one answer."""
    return Scores(
        float(japanese_utils.exact_match(answer, expected)),
        float(japanese_utils.contains(answer, expected)),
        japanese_utils.chrf(answer, expected),
        japanese_utils.rouge_l(answer, expected),
    )


@dataclass(frozen=True)
class Exchange:
    """One question with both answers."""

    row: Row
    base: str
    tuned: str
    base_scores: Scores
    tuned_scores: Scores
    base_ended: bool
    tuned_ended: bool
    base_reasoning: str = ""
    tuned_reasoning: str = ""

    @property
    def question(self) -> str:
        """The last one, where a conversation has several turns."""
        return str(self.row["messages"][-2]["content"])

    @property
    def expected(self) -> str:
        """Without reasoning, as the answers are."""
        return answer_of(self.row["messages"][-1])


def exchanges(measured: Measured) -> list[Exchange]:
    """Of the rows that both models were asked."""
    pairs = []
    for row, base, tuned in zip(measured.rows, measured.base, measured.tuned, strict=True):
        if base.answer is None or tuned.answer is None:
            continue
        expected = answer_of(row["messages"][-1])
        pairs.append(
            Exchange(
                row=row,
                base=base.answer,
                tuned=tuned.answer,
                base_scores=score(base.answer, expected),
                tuned_scores=score(tuned.answer, expected),
                base_ended=base.ended,
                tuned_ended=tuned.ended,
                base_reasoning=base.reasoning,
                tuned_reasoning=tuned.reasoning,
            )
        )
    return pairs


# --- losses ------------------------------------------------------------------------------


def per_token(grade: Grade) -> float:
    """Nats; 0 for a row without a target."""
    return grade.nats / grade.targets if grade.targets else 0.0


def perplexity(nats: float) -> float:
    """Of a loss; bounded, so that no loss is too large for it."""
    return math.exp(min(nats, 700.0))


def loss(grades: Sequence[Grade], seed: int) -> Interval | None:
    """Nats per supervised token."""
    return ratio([grade.nats for grade in grades], [grade.targets for grade in grades], seed)


def loss_change(measured: Measured, seed: int) -> Interval | None:
    """Nats per supervised token, tuned minus base, paired by row."""
    pairs = zip(measured.base, measured.tuned, strict=True)
    differences = [tuned.nats - base.nats for base, tuned in pairs]
    return ratio(differences, [grade.targets for grade in measured.tuned], seed)


def loss_figures(grades: Sequence[Grade], seed: int) -> LossFigures:
    """Loss and perplexity with their intervals."""
    estimate = loss(grades, seed)
    if estimate is None or not math.isfinite(estimate.value):
        return LossFigures()
    return LossFigures(
        estimate.value,
        (estimate.low, estimate.high),
        perplexity(estimate.value),
        (perplexity(estimate.low), perplexity(estimate.high)),
    )


# --- answers -----------------------------------------------------------------------------


def answer_figures(exchanges: Sequence[Exchange], who: str) -> AnswerFigures:
    """Means of the scores, and the share of answers that ended by themselves; who: base or tuned."""
    if not exchanges:
        return AnswerFigures()
    scores = [getattr(exchange, f"{who}_scores") for exchange in exchanges]
    ended = [getattr(exchange, f"{who}_ended") for exchange in exchanges]
    means = {name: sum(getattr(one, name) for one in scores) / len(scores) for name in SCORES}
    return AnswerFigures(**means, ended=sum(ended) / len(ended))


def score_changes(exchanges: Sequence[Exchange], seed: int) -> dict[str, Interval | None]:
    """Tuned minus base with paired intervals, by score."""
    return {
        name: ratio(
            [getattr(one.tuned_scores, name) - getattr(one.base_scores, name) for one in exchanges],
            seed=seed,
        )
        for name in SCORES
    }
