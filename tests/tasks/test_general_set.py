"""Which general questions a base is judged by: those of its own languages."""

from __future__ import annotations

from collections.abc import Sequence

from mlx_finetuning.experiment_tracker.evaluation import general_questions
from mlx_finetuning.experiment_tracker.evaluation.general_questions import GeneralQuestion
from mlx_finetuning.mlx_trainer.inference.grade import Grade
from mlx_finetuning.tasks import general_set


class Base:
    """Answers the questions it knows rightly, and counts what it is asked."""

    def __init__(self, known: Sequence[GeneralQuestion]) -> None:
        self.known, self.asked = set(known), 0

    def grade(self, questions: Sequence[GeneralQuestion]) -> list[Grade]:
        self.asked += len(questions)
        return [Grade(1.0, 1, one.answer if one in self.known else "?") for one in questions]


def test_a_base_that_speaks_english_is_asked_what_it_answers_in_english() -> None:
    japanese, english = general_questions.questions(), general_questions.questions("en")
    base = Base(english[::2])
    found = general_set.of_base(base.grade)
    assert found.questions == (*japanese, *english[::2])
    assert [one.answer for one in found.base[len(japanese) :]] == [
        one.answer for one in english[::2]
    ]


def test_a_base_without_english_is_asked_little_of_it() -> None:
    japanese = general_questions.questions()
    base = Base(japanese)
    assert general_set.of_base(base.grade).questions == japanese
    assert base.asked <= len(japanese) + 2 * general_set.PROBES
