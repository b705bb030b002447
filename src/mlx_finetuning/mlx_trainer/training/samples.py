"""Sample answers during training: the same few questions again and again, so that people can watch.

Greedy and short, so that they cost little. Held-out questions where there are any.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlx_finetuning.config import GenerateConfig
from mlx_finetuning.errors import PromptTooLong
from mlx_finetuning.mlx_trainer.inference import generate, grade
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.tokenization.reasoning import answer_of

QUESTIONS = 3
TOKENS = 48
THINKING_TOKENS = 256
"""Where the model thinks before it answers: the answer is what people want to watch."""

Rows = Sequence[Mapping[str, Any]]


def questions(train_rows: Rows, valid_rows: Rows) -> list[Mapping[str, Any]]:
    """The first few rows that end with an answer, held-out ones before trained ones."""
    asked = (row for row in (*valid_rows, *train_rows) if grade.is_question(row))
    return list(itertools.islice(asked, QUESTIONS))


def answers(loaded: LoadedModel, rows: Rows, update: int) -> Iterator[dict[str, object]]:
    """A line of `samples.jsonl` for each row; rows that are too long to be asked are left out."""
    settings = GenerateConfig(max_tokens=THINKING_TOKENS if loaded.chat.thinks else TOKENS)
    for row in rows:
        *turns, last = row["messages"]
        try:
            given = generate.answer(loaded, turns, settings, row.get("tools"))
        except PromptTooLong:
            continue
        yield {
            "update": update,
            "row": int(row.get("row", 0)),
            "question": turns[-1]["content"],
            "expected": answer_of(last),
            "answer": given.text,
            "reasoning": given.reasoning,
            "ended": given.ended,
        }
