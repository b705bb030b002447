"""Answers that people put right in a conversation, as explicit steps over examples.

A correction takes the place of every answer that the sources give to the same question; a question
that is nowhere in them becomes an example behind the first source's last row. Of several to one
question the last wins. Both are trained on, wherever the split would put them, and twice. The sources
stay as they came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlx_finetuning.data_processor.chats import Turn
from mlx_finetuning.data_processor.checks.keys import question_and_answer
from mlx_finetuning.data_processor.examples import Example, findings_at
from mlx_finetuning.data_processor.findings import Finding
from mlx_finetuning.tokenization.turns import UNTRAINED
from mlx_finetuning.utils.japanese_utils import comparison_key

TIMES = 2
"""How often a corrected answer is trained: what was taught once and not learned needs more than that."""


@dataclass(frozen=True)
class Correction:
    """What a model should have answered."""

    prompt: tuple[str, ...]
    """What was said up to the question and with it, in turn, the user first."""
    answer: str
    run_id: str = ""
    """Whose answer was wrong."""


def as_examples(corrections: Sequence[Correction], source: str) -> list[Example]:
    """The last correction of each question as an example that is trained on; earlier answers in its
    conversation, which were the model's own, are not."""
    by_question: dict[str, Example] = {}
    for correction in corrections:
        turns = [
            Turn("assistant", text, (UNTRAINED,)) if at % 2 else Turn("user", text)
            for at, text in enumerate(correction.prompt)
        ]
        example = Example(
            0,
            (*turns, Turn("assistant", correction.answer)),
            source=source,
            split="train",
            times=TIMES,
        )
        by_question[_question(example)] = example
    return list(by_question.values())


def merged(
    examples: Sequence[Example], corrected: Sequence[Example]
) -> tuple[list[Example], list[Finding]]:
    """`examples` with the answers of `corrected`, which are those of `as_examples`, and what is to be
    said of it. A system text that all examples share goes before what is added, too."""
    waiting = {_question(example): example for example in corrected}
    told: list[Example] = []
    answered: set[str] = set()
    result: list[Example] = []
    for example in examples:
        question = _question(example)
        if question in waiting:
            answered.add(question)
            turns = (*example.turns[:-1], waiting[question].turns[-1])
            told.append(replace(example, turns=turns, split="train", times=TIMES))
            result.append(told[-1])
        else:
            result.append(example)
    openings = {example.turns[:1] for example in examples}
    shared = openings.pop() if len(openings) == 1 else ()
    system = tuple(turn for turn in shared if turn.role == "system")
    for question, example in waiting.items():
        if question not in answered:
            rows = (one.row for one in result if one.source == example.source)
            turns = (*system, *example.turns)
            result.append(replace(example, row=max(rows, default=1) + 1, turns=turns))
            told.append(result[-1])
    return result, findings_at("CORRECTED", told, count=len(told))


def _question(example: Example) -> str:
    return question_and_answer(example, [comparison_key(turn.content) for turn in example.turns])[0]
