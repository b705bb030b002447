"""A question-answer pair made from a chunk, and what checking it found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mlx_finetuning.language import N_, _

Kind = Literal["fact", "procedure", "definition", "comparison", "absent"]
KINDS_JA: dict[str, str] = {
    "fact": N_("事実"),
    "procedure": N_("手順"),
    "definition": N_("用語"),
    "comparison": N_("比べる"),
    "absent": N_("書かれていない"),
}
ABSENT_ANSWER = "その内容は、資料に書かれていないため、分かりません。"
"""What is answered to a question that a document does not settle."""

PROBLEMS_JA = {
    "quote_missing": N_("根拠の文が、資料のその所にありません"),
    "quote_short": N_("根拠の文が短すぎます"),
    "number_missing": N_("数や日付が、資料のその所にありません"),
    "name_missing": N_("名前などが、資料のその所にありません"),
    "fact_elsewhere": N_(
        "根拠の文にない数や名前が入っています（資料のその所の、別の文にはあります）"
    ),
    "answer_unsupported": N_("回答の言葉が、根拠の文にほとんどありません"),
    "answer_denied": N_("回答が、根拠の文と逆のことを言っています"),
    "question_unrelated": N_("質問の言葉が、資料のその所にほとんどありません"),
    "dangling": N_("資料を見ないと、何のことか分かりません"),
    "no_subject": N_("何についての質問か分かりません"),
    "duplicate": N_("ほかの質問とほとんど同じです"),
    "answer_is_question": N_("回答が、質問の繰り返しか、質問の形です"),
    "length": N_("長さが合いません"),
    "language": N_("資料と違う言語です"),
    "broken_text": N_("文字化けか、同じ言葉の繰り返しがあります"),
    "absent_answer": N_("「書かれていない」質問に、答えています"),
    "not_answerable": N_("資料を見せても、モデルが同じ答えを出せません"),
    "answerable_without": N_("資料を見せなくても、モデルが同じ答えを出します"),
}
"""What a check finds, as it is told; a pair may have several."""


BY_MODEL = ("not_answerable", "answerable_without")
"""Found by asking a model, after all other checks."""


@dataclass(frozen=True)
class Problem:
    """One reason why a pair is not used as it is."""

    code: str
    """A key of `PROBLEMS_JA`."""
    detail: str = ""
    """What was found: the number, the name, the other question."""

    @property
    def text_ja(self) -> str:
        """For people."""
        problem = _(PROBLEMS_JA[self.code])
        if not self.detail:
            return problem
        return _("{problem}：{detail}").format(problem=problem, detail=self.detail)


@dataclass(frozen=True)
class Pair:
    """A question with its answer, and where the answer comes from."""

    question: str
    answer: str
    quote: str
    """The sentence that the answer rests on, as the document has it; empty for `absent`."""
    kind: Kind
    document: str
    chunk: int
    """Its number within the document."""
    page: int = 0
    """Where the quote stands; 0 where the format has no pages."""
    problems: tuple[Problem, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether no check found anything."""
        return not self.problems
