"""What examples are compared by: questions as folded text, answers and whole examples as digests.

Made once, after cleaning, and kept apart from the examples. Digests save memory: nothing but
equality is asked of an answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from mlx_finetuning.data_processor.checks.folding import comparison_keys
from mlx_finetuning.data_processor.examples import Example
from mlx_finetuning.data_processor.stage_progress import SILENT, StageProgress

NONE = b""
_CHUNK = 10_000
"""Examples whose texts are folded at once."""


@dataclass(frozen=True)
class Keys:
    """Of each example, in order."""

    questions: list[str]
    """What the answer depends on: all turns before it but the system's; of plain text, all."""
    answers: list[bytes]
    """The last turn of a chat, the chosen answer of a preference; `NONE` for plain text, and for
    an answer without a word."""
    wholes: list[Hashable]
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
    questions, answers, wholes = list[str](), list[bytes](), list[Hashable]()
    for start in range(0, len(examples), _CHUNK):
        progress.update(start, len(examples))
        chunk = examples[start : start + _CHUNK]
        folded = comparison_keys([turn.content for each in chunk for turn in each.turns])
        at = 0
        for example in chunk:
            parts = folded[at : at + len(example.turns)]
            at += len(parts)
            question, answer = question_and_answer(example, parts)
            questions.append(question)
            answers.append(_digest(answer) if answer else NONE)
            thoughts = [turn.reasoning for turn in example.turns if turn.reasoning]
            # An answer that is marked as good here and as bad there is no repetition.
            mark = [] if example.is_desirable is None else [str(example.is_desirable)]
            is_pair = len(parts) == 2 and not thoughts and not mark
            wholes.append(
                (question, answers[-1]) if is_pair else _digest("\0".join(parts + thoughts + mark))
            )
    return Keys(questions, answers, wholes)


def question_and_answer(example: Example, parts: Sequence[str]) -> tuple[str, str]:
    """Of the turns' comparison keys, those asked, joined by line ends, and the one answered."""
    if len(parts) == 1:
        return parts[0], ""
    first = example.turns[0].role
    if first == "prompt" or (first == "user" and len(parts) == 2):
        return parts[0], parts[1]
    roles = (turn.role for turn in example.turns)
    asked = (key for key, role in zip(parts[:-1], roles, strict=False) if role != "system")
    return "\n".join(asked), parts[-1]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
