"""The bundled general questions, written for this project: what a model knew before training.

The same for every model and never trained on. Small and simple on purpose: what a tiny model can
answer, a large one can as well, and what neither can says nothing about forgetting.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass

from mlx_finetuning.files import ASSETS
from mlx_finetuning.tokenization.rows import Row
from mlx_finetuning.utils.japanese_utils import contains

QUESTIONS = ASSETS / "general_ja.jsonl"


@dataclass(frozen=True)
class GeneralQuestion:
    """One question that any model can be asked."""

    kind: str
    """In Japanese: 「知識」「資料を読む」."""
    question: str
    answer: str
    key: str
    """What a right answer contains, however it is worded."""

    @property
    def row(self) -> Row:
        """As a row of a dataset."""
        turns = (("user", self.question), ("assistant", self.answer))
        return {"messages": [{"role": role, "content": content} for role, content in turns]}

    @property
    def text_row(self) -> Row:
        """For models without a chat template."""
        return {"text": f"{self.question}\n{self.answer}"}

    def is_right(self, answer: str | None) -> bool:
        """Whether the answer says what is asked for; None never does."""
        return answer is not None and contains(answer, self.key)


@functools.cache
def questions() -> tuple[GeneralQuestion, ...]:
    """All of them, in the order of the file."""
    lines = QUESTIONS.read_text(encoding="utf-8").splitlines()
    return tuple(GeneralQuestion(**json.loads(line)) for line in lines)
