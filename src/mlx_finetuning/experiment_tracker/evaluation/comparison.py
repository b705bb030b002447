"""Base and tuned model on the same rows: losses with paired intervals, answers with scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from mlx_finetuning.experiment_tracker.evaluation.questions import Row
from mlx_finetuning.experiment_tracker.evaluation.scores import NAMES, Scores, score
from mlx_finetuning.experiment_tracker.evaluation.statistics import Interval, ratio
from mlx_finetuning.tokenization.reasoning import answer_of


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
        return str(self.row["messages"][-2]["content"])

    @property
    def expected(self) -> str:
        """Without reasoning, as the answers are."""
        return answer_of(self.row["messages"][-1])


def exchanges(measured: Measured) -> list[Exchange]:
    """Of the rows that both models were asked."""
    found = []
    for row, base, tuned in zip(measured.rows, measured.base, measured.tuned, strict=True):
        if base.answer is None or tuned.answer is None:
            continue
        expected = answer_of(row["messages"][-1])
        scores = score(base.answer, expected), score(tuned.answer, expected)
        ended = base.ended, tuned.ended
        thoughts = base.reasoning, tuned.reasoning
        found.append(Exchange(row, base.answer, tuned.answer, *scores, *ended, *thoughts))
    return found


def loss(grades: Sequence[Grade], seed: int) -> Interval | None:
    """Nats per supervised token."""
    return ratio([one.nats for one in grades], [one.targets for one in grades], seed)


def loss_change(measured: Measured, seed: int) -> Interval | None:
    """Nats per supervised token, tuned minus base, paired by row."""
    pairs = zip(measured.base, measured.tuned, strict=True)
    differences = [tuned.nats - base.nats for base, tuned in pairs]
    return ratio(differences, [one.targets for one in measured.tuned], seed)


def loss_figures(grades: Sequence[Grade], seed: int) -> dict[str, Any]:
    """Loss and perplexity with their intervals, for the report; None where there is no target."""
    found = loss(grades, seed)
    if found is None or not math.isfinite(found.value):
        return dict.fromkeys(("loss", "loss_interval", "perplexity", "perplexity_interval"))
    interval = [found.low, found.high]
    return {
        "loss": found.value,
        "loss_interval": interval,
        "perplexity": perplexity(found.value),
        "perplexity_interval": [perplexity(end) for end in interval],
    }


def perplexity(nats: float) -> float:
    return math.exp(min(nats, 700.0))


def answer_figures(found: Sequence[Exchange], who: str) -> dict[str, float | None]:
    """Means of the scores, and the share of answers that ended by themselves; who: base or tuned."""
    if not found:
        return dict.fromkeys((*NAMES, "ended"))
    scores = [asdict(getattr(item, f"{who}_scores")) for item in found]
    means = {name: sum(one[name] for one in scores) / len(scores) for name in NAMES}
    return {**means, "ended": sum(getattr(item, f"{who}_ended") for item in found) / len(found)}


def score_changes(found: Sequence[Exchange], seed: int) -> dict[str, dict[str, float] | None]:
    """Tuned minus base with paired intervals, by score."""
    changes = {}
    for name in NAMES:
        pairs = ((getattr(x.tuned_scores, name), getattr(x.base_scores, name)) for x in found)
        change = ratio([after - before for after, before in pairs], seed=seed)
        changes[name] = None if change is None else asdict(change)
    return changes


def per_token(grade: Grade) -> float:
    return grade.nats / grade.targets if grade.targets else 0.0
