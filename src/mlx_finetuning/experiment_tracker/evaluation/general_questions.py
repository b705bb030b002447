"""The bundled general questions, written for this project: what a model knew before training.

Never trained on. Small and simple on purpose: what a tiny model can answer, a large one can as well,
and what neither can says nothing about forgetting. Every model is asked the Japanese ones; of other
languages those that it answers rightly before it is trained (`tasks.general_set` asks it).
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass

from mlx_finetuning.files import ASSETS
from mlx_finetuning.language import N_
from mlx_finetuning.tokenization.rows import Row
from mlx_finetuning.utils.japanese_utils import comparison_key

KINDS_JA = (
    *(N_("知識", "asked"), N_("言葉", "asked"), N_("数と曜日", "asked"), N_("一覧", "asked")),
    *(N_("分類", "asked"), N_("抜き出す", "asked"), N_("復唱", "asked")),
    *(N_("資料を読む", "asked"), N_("文章の続き", "asked")),
    *(N_("知識（英語）", "asked"), N_("言葉（英語）", "asked"), N_("数（英語）", "asked")),
    *(N_("復唱（英語）", "asked"), N_("資料を読む（英語）", "asked")),
)
"""The kinds of questions in the files; shown with `_` and the same context."""
OTHER_LANGUAGES = ("en",)
"""Of which there is a set beside the Japanese one."""


@dataclass(frozen=True)
class GeneralQuestion:
    """One question that any model can be asked."""

    kind: str
    """One of `KINDS_JA`."""
    question: str
    answer: str
    key: str
    """What a right answer contains, however it is worded; several, of which one is enough, are
    divided by `|`."""

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
        said = comparison_key(answer or "")
        return any(_says(said, comparison_key(key)) for key in self.key.split("|"))


def _says(said: str, key: str) -> bool:
    """Latin words and numbers whole: `nile` is not in `juvenile`, nor `7` in `1978`."""
    if not key.isascii():
        return key in said
    return re.search(rf"(?<![a-z0-9]){re.escape(key)}(?![a-z0-9])", said) is not None


@functools.cache
def questions(language: str = "ja") -> tuple[GeneralQuestion, ...]:
    """All of a language, in the order of the file."""
    lines = (ASSETS / f"general_{language}.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(GeneralQuestion(**json.loads(line)) for line in lines)
