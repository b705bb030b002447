"""How well a model knows a split: its loss, and greedy answers against the expected ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlx_finetuning.config import EvaluateConfig, GenerateConfig
from mlx_finetuning.mlx_trainer import batches, generate, loss
from mlx_finetuning.mlx_trainer.examples import encode_rows
from mlx_finetuning.mlx_trainer.load import LoadedModel
from mlx_finetuning.progress import Progress, Step
from mlx_finetuning.utils.japanese_utils import contains, exact_match

BATCH = 8


@dataclass(frozen=True)
class GradedAnswer:
    row: int
    """The line of the source file."""
    question: str
    expected: str
    answer: str
    exact: bool
    """Equal after NFKC and whitespace folding."""
    contains: bool
    """The expected text occurs in the answer."""
    ended: bool
    """The model ended its turn by itself."""


@dataclass(frozen=True)
class Grades:
    rows: int
    loss: float | None
    """Nats per supervised token; None without any."""
    perplexity: float | None
    exact: float | None
    """Shares of the answered rows; None where nothing was asked."""
    contains: float | None
    ended: float | None
    answers: tuple[GradedAnswer, ...]


def grade(
    loaded: LoadedModel,
    rows: Sequence[dict[str, Any]],
    config: EvaluateConfig,
    progress: Progress,
    stage: str,
    *,
    ask: bool,
) -> Grades:
    """Grade the first `config.max_rows` rows; with `ask`, their questions are answered greedily."""
    taken = list(rows[: config.max_rows])
    examples = encode_rows(loaded, taken, loaded.context_length)
    mean = loss.corpus_loss(loaded.model, list(batches.once(examples, BATCH)))
    known = mean if math.isfinite(mean) else None
    answers: list[GradedAnswer] = []
    asked = [row for row in taken if _is_question(row)] if ask else []
    for row in asked:
        answers.append(_answered(loaded, row, config))
        progress(Step(stage, len(answers), len(asked)))
    return Grades(
        rows=len(taken),
        loss=known,
        perplexity=None if known is None else math.exp(min(known, 700.0)),
        exact=_share([item.exact for item in answers]),
        contains=_share([item.contains for item in answers]),
        ended=_share([item.ended for item in answers]),
        answers=tuple(answers),
    )


def _is_question(row: dict[str, Any]) -> bool:
    messages = row.get("messages") or []
    return len(messages) > 1 and messages[-1]["role"] == "assistant"


def _answered(loaded: LoadedModel, row: dict[str, Any], config: EvaluateConfig) -> GradedAnswer:
    *turns, last = row["messages"]
    settings = GenerateConfig(max_tokens=config.max_tokens)
    given = generate.answer(loaded, turns, settings, row.get("tools"))
    return GradedAnswer(
        row=int(row.get("row", 0)),
        question=turns[-1]["content"],
        expected=last["content"],
        answer=given.text,
        exact=exact_match(given.text, last["content"]),
        contains=contains(given.text, last["content"]),
        ended=given.ended,
    )


def _share(flags: list[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None
