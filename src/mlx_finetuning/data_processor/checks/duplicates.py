"""Examples that say what another says: the same, nearly the same, or something else to the same
question. Works on `Keys`; changes nothing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Sequence

from mlx_finetuning.data_processor.checks.grams import GRAM
from mlx_finetuning.data_processor.checks.groups import Labels, members
from mlx_finetuning.data_processor.checks.keys import NONE, Keys, question_and_answer
from mlx_finetuning.data_processor.checks.near import NEAR
from mlx_finetuning.data_processor.examples import Example
from mlx_finetuning.data_processor.stage_progress import SILENT, StageProgress
from mlx_finetuning.utils.japanese_utils import comparison_key

_COMPARED = 4
"""Earlier examples of a group that one is compared with: enough, as they differ among themselves."""
_DIGITS = re.compile("[0-9]+")
_PUNCTUATION = re.compile("[、。・!?「」 ]+")
"""Signs, as comparison keys have them, that make no other question."""


def without_duplicates(keys: Keys) -> tuple[list[int], list[int]]:
    """Indices of the first of each question and answer, and of the others."""
    seen: set[Hashable] = set()
    first: list[int] = []
    repeated: list[int] = []
    for at, whole in enumerate(keys.wholes):
        (repeated if whole in seen else first).append(at)
        seen.add(whole)
    return first, repeated


def conflicts(examples: Sequence[Example], keys: Keys) -> list[int]:
    """Indices of examples whose question (and system text) occurs with another answer too."""
    by_question: defaultdict[str, list[int]] = defaultdict(list)
    for at, question in enumerate(keys.questions):
        # Of judged answers a question may well have several.
        if keys.answers[at] != NONE and examples[at].is_desirable is None:
            by_question[_PUNCTUATION.sub("", question)].append(at)
    conflicting: list[int] = []
    for same_question in by_question.values():
        if len(same_question) == 1:
            continue
        by_system: defaultdict[str, list[int]] = defaultdict(list)
        for at in same_question:
            first = examples[at].turns[0]
            by_system[first.content if first.role == "system" else ""].append(at)
        for group in by_system.values():
            if len({keys.answers[at] for at in group}) > 1:
                conflicting += group
    return sorted(conflicting)


def near_duplicates(
    examples: Sequence[Example], keys: Keys, labels: Labels, progress: StageProgress = SILENT
) -> list[int]:
    """Indices of examples whose question and answer are both nearly those of an earlier one, with
    the same numbers.

    `labels` groups nearly equal questions. Examples that differ in a number are different facts.
    """
    near: list[int] = []
    for group in progress.over([group for group in members(labels) if len(group) > 1]):
        by_numbers: defaultdict[str, list[int]] = defaultdict(list)
        for at in group:
            by_numbers[" ".join(_DIGITS.findall(keys.questions[at]))].append(at)
        for same_numbers in by_numbers.values():
            near += _near_in(same_numbers, examples, keys)
    return sorted(near)


def _near_in(group: Sequence[int], examples: Sequence[Example], keys: Keys) -> list[int]:
    """Those of a group of nearly equal questions whose answers are nearly an earlier one's."""
    near: list[int] = []
    answers: set[bytes] = set()
    questions: set[str] = set()
    earlier: list[tuple[frozenset[str], list[str]]] = []
    if len({keys.answers[at] for at in group}) == 1:
        return list(group[1:])
    for at in group:
        # The same question with another answer is a conflict, and called that.
        is_new_question = keys.questions[at] not in questions
        questions.add(keys.questions[at])
        if keys.answers[at] in answers:
            near.append(at)
            continue
        answers.add(keys.answers[at])
        if len(earlier) == _COMPARED:
            continue
        parts = [comparison_key(turn.content) for turn in examples[at].turns]
        answer = question_and_answer(examples[at], parts)[1]
        starts = range(max(len(answer) - GRAM + 1, 1))
        grams = frozenset(answer[start : start + GRAM] for start in starts)
        numbers = _DIGITS.findall(answer)
        if is_new_question and any(
            numbers == other_numbers and _is_near(grams, other) for other, other_numbers in earlier
        ):
            near.append(at)
        else:
            earlier.append((grams, numbers))
    return near


def _is_near(left: frozenset[str], right: frozenset[str]) -> bool:
    """Whether the Jaccard similarity reaches the threshold."""
    shared = len(left & right)
    return shared >= NEAR * (len(left) + len(right) - shared)
