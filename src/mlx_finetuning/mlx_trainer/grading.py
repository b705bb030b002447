"""What a model makes of rows: the loss of every row, and greedy answers to its last question.

Measures one model; comparing and judging is done by `experiment_tracker`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from mlx_finetuning.config import EvaluateConfig
from mlx_finetuning.errors import NothingToLearn
from mlx_finetuning.mlx_trainer import batched, batches, loss
from mlx_finetuning.mlx_trainer.examples import encode_rows
from mlx_finetuning.mlx_trainer.load import LoadedModel
from mlx_finetuning.progress import Progress, Step

Row = dict[str, Any]


@dataclass(frozen=True)
class Grade:
    """One row as one model knows it."""

    nats: float
    """Summed over the row's targets."""
    targets: int
    """Supervised tokens; 0 where the row has none that fit."""
    answer: str | None = None
    """None where nothing was asked."""
    ended: bool = False
    """Whether the model ended its answer by itself."""


def grade(
    loaded: LoadedModel,
    rows: Sequence[Row],
    config: EvaluateConfig,
    progress: Progress,
    stage: str,
    *,
    ask: bool,
) -> list[Grade]:
    """A grade per row; with `ask`, the questions that fit the context are answered greedily."""
    grades = []
    for done, row in enumerate(rows):
        progress(Step(f"{stage}：損失", done, len(rows)))
        grades.append(_loss(loaded, row))
    asked = [at for at, row in enumerate(rows) if ask and is_question(row)]
    prompts = {at: prompt(loaded, rows[at]) for at in asked}
    fitting = [at for at in asked if len(prompts[at]) < loaded.context_length]

    def finished(count: int) -> None:
        progress(Step(f"{stage}：答え", count, len(fitting)))

    given = batched.answers(
        loaded, [prompts[at] for at in fitting], config.max_tokens, config.batch_size, finished
    )
    for at, answer in zip(fitting, given, strict=True):
        grades[at] = replace(grades[at], answer=answer.text, ended=answer.ended)
    return grades


def _loss(loaded: LoadedModel, row: Row) -> Grade:
    try:
        examples = encode_rows(loaded, [row], loaded.context_length)
    except NothingToLearn:
        return Grade(0.0, 0)
    # A row of its own: padding others in would save a quarter of the time, and add a second way.
    alone = [batches.batch_of([example]) for example in examples]
    nats = [cast(float, loss.summed(loaded.model, batch).item()) for batch in alone]
    return Grade(sum(nats), sum(batch.supervised for batch in alone))


def is_question(row: Row) -> bool:
    """Whether the row's conversation ends with an answer to something."""
    messages = row.get("messages") or []
    return len(messages) > 1 and messages[-1]["role"] == "assistant"


def prompt(loaded: LoadedModel, row: Row) -> list[int]:
    """Token ids of the row's conversation up to its last answer."""
    return loaded.render(row["messages"][:-1], ask=True, tools=row.get("tools"))
