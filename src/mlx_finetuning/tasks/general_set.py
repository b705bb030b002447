"""The general questions that fit a base: the Japanese ones, and those of other languages that it answers.

Found by asking the base. A few of a language are asked first: of one that it does not speak, no more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlx_finetuning.experiment_tracker.evaluation import general_questions
from mlx_finetuning.experiment_tracker.evaluation.general_questions import GeneralQuestion
from mlx_finetuning.experiment_tracker.evaluation.questions import evenly
from mlx_finetuning.mlx_trainer.inference.grade import Grade

PROBES = 8
"""Questions of a language that are asked first, spread over all."""
ALL = 1 << 20
"""More than there are."""


@dataclass(frozen=True)
class GeneralSet:
    """What both models are asked, and what the base made of it."""

    questions: tuple[GeneralQuestion, ...]
    base: list[Grade]


def of_base(
    grade: Callable[[Sequence[GeneralQuestion]], list[Grade]], most: int = ALL
) -> GeneralSet:
    """grade: the base's grades of questions, with its answers; most: of a language, spread over all."""

    def asked(language: str) -> tuple[GeneralQuestion, ...]:
        return tuple(evenly(general_questions.questions(language), most))

    questions = asked("ja")
    base = grade(questions)
    for language in general_questions.OTHER_LANGUAGES:
        offered = asked(language)
        probes = offered[:: len(offered) // PROBES]
        if not any(map(_is_known, probes, grade(probes))):
            continue
        known = [pair for pair in zip(offered, grade(offered), strict=True) if _is_known(*pair)]
        questions += tuple(question for question, _ in known)
        base += [answered for _, answered in known]
    return GeneralSet(questions, base)


def _is_known(question: GeneralQuestion, grade: Grade) -> bool:
    return question.is_right(grade.answer)
