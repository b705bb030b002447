"""What a tuned model says to every question of its dataset, judged. Plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from mlx_finetuning.experiment_tracker.evaluation.results import MARK_OF, MARKS_JA
from mlx_finetuning.experiment_tracker.evaluation.rightness import RIGHT, by_person
from mlx_finetuning.language import N_, _

MEANINGS_JA = {
    **{rightness: MARKS_JA[mark] for rightness, mark in MARK_OF.items()},
    "empty": N_("何も答えない"),
}


@dataclass(frozen=True)
class BatchAnswer:
    """A line of `answers.jsonl`."""

    prompt: tuple[str, ...]
    """What was said up to the question and with it, in turn, the user first."""
    expected: str
    answer: str
    rightness: str
    """`exact`, `contains`, `unsure`, `wrong` or `empty`."""
    split: str
    is_reworded: bool
    """Whether it asks for what is asked for by a row that was trained on."""
    row: int = 0
    """Of the source; 0 where it is not known."""
    ended: bool = True
    """By itself."""

    @property
    def taught_ja(self) -> str:
        """Whether the row was trained on, for people."""
        if self.split == "train":
            return _("教えた")
        return _("教えていない（別の聞き方）") if self.is_reworded else _("教えていない")

    @property
    def is_right(self) -> bool:
        """Word for word or in other words."""
        return self.rightness in RIGHT

    @property
    def mark(self) -> str:
        """○ word for word, △ in other words, ？ for a person to tell, × for the rest."""
        return MARK_OF[self.rightness]


@dataclass(frozen=True)
class BatchTest:
    """How many of the questions were answered rightly."""

    asked: int
    right: int
    taught: int
    """Questions that were trained on."""
    taught_right: int
    unsure: int = 0
    """Answers of which only a person can tell."""

    @property
    def line(self) -> str:
        """「37問中29問に正解（教えた29問中25問、教えていない8問中4問）。ほかに要確認が2問」."""
        untaught, untaught_right = self.asked - self.taught, self.right - self.taught_right
        parts = [
            _("{name}{asked}問中{right}問").format(name=name, asked=asked, right=right)
            for name, asked, right in (
                (_("教えた", "within"), self.taught, self.taught_right),
                (_("教えていない", "within"), untaught, untaught_right),
            )
            if asked
        ]
        told = (
            _("{asked}問中{right}問に正解（{parts}）。ほかに要確認が{unsure}問")
            if self.unsure
            else _("{asked}問中{right}問に正解（{parts}）")
        )
        parts_told = _("、").join(parts)
        return told.format(asked=self.asked, right=self.right, parts=parts_told, unsure=self.unsure)


def counted(answers: Iterable[BatchAnswer]) -> BatchTest:
    """The figures of these answers."""
    answers = list(answers)
    told = [(answer.split == "train", answer.is_right) for answer in answers]
    return BatchTest(
        asked=len(told),
        right=sum(is_right for __, is_right in told),
        taught=sum(is_taught for is_taught, __ in told),
        taught_right=sum(is_taught and is_right for is_taught, is_right in told),
        unsure=sum(answer.rightness == "unsure" for answer in answers),
    )


def judged(
    answers: Iterable[BatchAnswer], marks: Mapping[tuple[tuple[str, ...], str], bool]
) -> list[BatchAnswer]:
    """As people said of them, by prompt and answer; the others as they were."""
    return [
        one
        if (good := marks.get((one.prompt, one.answer))) is None
        else replace(one, rightness=by_person(one.rightness, good=good))
        for one in answers
    ]
