"""Sample answers during training: the same few questions again and again, so that people can watch.

Greedy and short, so that they cost little. Held-out questions where there are any.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlx_finetuning.mlx_trainer.inference import batch_generate, grade
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.tokenization.reasoning import answer_of

QUESTIONS = 3
TOKENS = 48
THINKING_TOKENS = 256
"""Where the model thinks before it answers: the answer is what people want to watch."""

Rows = Sequence[Mapping[str, Any]]


def questions(train_rows: Rows, valid_rows: Rows) -> list[Mapping[str, Any]]:
    """The first few rows that end with an answer, held-out ones before trained ones; each says whether it is
    `taught`."""
    asked = (
        {**row, "taught": is_taught}
        for is_taught, rows in ((False, valid_rows), (True, train_rows))
        for row in rows
        if grade.is_question(row)
    )
    return list(itertools.islice(asked, QUESTIONS))


def answers(loaded: LoadedModel, rows: Rows, update: int) -> Iterator[dict[str, object]]:
    """A line of `samples.jsonl` for each row; rows that are too long to be asked are left out."""
    prompts = [(row, grade.prompt(loaded, row)) for row in rows]
    asked = [(row, prompt) for row, prompt in prompts if len(prompt) < loaded.context_length]
    tokens = THINKING_TOKENS if loaded.chat.thinks else TOKENS
    given = batch_generate.answers(loaded, [prompt for _, prompt in asked], tokens, QUESTIONS)
    for (row, _), answer in zip(asked, given, strict=True):
        yield {
            "update": update,
            "row": int(row.get("row", 0)),
            "taught": row["taught"],
            "question": row["messages"][-2]["content"],
            "expected": answer_of(row["messages"][-1]),
            "answer": answer.text,
            "reasoning": answer.reasoning,
            "ended": answer.ended,
        }
