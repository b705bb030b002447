"""What examples are compared by: questions as folded text, answers and whole examples as digests.

Made once, after cleaning, and kept apart from the examples. Digests save memory: nothing but
equality is asked of an answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from mlx_finetuning.data_processor.examples import Example
from mlx_finetuning.data_processor.stage_progress import SILENT, StageProgress
from mlx_finetuning.utils.japanese_utils import comparison_key

NONE = b""


@dataclass(frozen=True)
class Keys:
    """Of each example, in order."""

    questions: list[str]
    """What the answer depends on: all turns before it but the system's; of plain text, all."""
    answers: list[bytes]
    """The last turn of a chat, the chosen answer of a preference; `NONE` for plain text, and for
    an answer without a word."""
    wholes: list[bytes]
    """Everything."""

    def at(self, indices: Sequence[int]) -> Keys:
        """The keys of the examples at these indices."""
        return Keys(
            [self.questions[at] for at in indices],
            [self.answers[at] for at in indices],
            [self.wholes[at] for at in indices],
        )


def keys_of(examples: Sequence[Example], progress: StageProgress = SILENT) -> Keys:
    """The keys of cleaned examples."""
    questions, answers, wholes = [], [], []
    for example in progress.over(examples):
        parts = [comparison_key(turn.content) for turn in example.turns]
        question, answer = question_and_answer(example, parts)
        questions.append(question)
        answers.append(_digest(answer) if answer else NONE)
        thoughts = (turn.reasoning for turn in example.turns if turn.reasoning)
        wholes.append(_digest("\0".join((*parts, *thoughts))))
    return Keys(questions, answers, wholes)


def question_and_answer(example: Example, parts: Sequence[str]) -> tuple[str, str]:
    """Of the turns' comparison keys, those asked, joined by line ends, and the one answered."""
    roles = [turn.role for turn in example.turns]
    if len(parts) == 1:
        return parts[0], ""
    if roles[0] == "prompt":
        return parts[0], parts[1]
    if roles == ["user", "assistant"]:
        return parts[0], parts[1]
    asked = (key for key, role in zip(parts[:-1], roles, strict=False) if role != "system")
    return "\n".join(asked), parts[-1]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
