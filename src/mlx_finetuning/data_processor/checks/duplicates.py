"""Rows that say what another row says: the same, nearly the same, or something else to the same
question. Works on `Keys`; changes nothing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from mlx_finetuning.data_processor.checks.grams import GRAM
from mlx_finetuning.data_processor.checks.groups import Labels, members
from mlx_finetuning.data_processor.checks.keys import NONE, Keys, question_and_answer
from mlx_finetuning.data_processor.checks.near import NEAR
from mlx_finetuning.data_processor.examples import Example
from mlx_finetuning.data_processor.watching import Tick, still, watched
from mlx_finetuning.utils.japanese_utils import comparison_key

_COMPARED = 4
"""Earlier rows of a group that a row is compared with: enough, as they differ among themselves."""
_DIGITS = re.compile("[0-9]+")


def without_duplicates(keys: Keys) -> tuple[list[int], list[int]]:
    """Indices of the first of each question and answer, and of the others."""
    seen: set[bytes] = set()
    kept: list[int] = []
    doubles: list[int] = []
    for at, whole in enumerate(keys.wholes):
        (doubles if whole in seen else kept).append(at)
        seen.add(whole)
    return kept, doubles


def conflicts(examples: Sequence[Example], keys: Keys) -> list[int]:
    """Rows whose question (and system text) occurs with another answer too."""
    same: defaultdict[str, list[int]] = defaultdict(list)
    for at, question in enumerate(keys.questions):
        if keys.answers[at] != NONE:
            same[question].append(at)
    return sorted(
        at
        for asked in same.values()
        if len(asked) > 1
        for group in _by_system(examples, asked)
        if len({keys.answers[at] for at in group}) > 1
        for at in group
    )


def _by_system(examples: Sequence[Example], asked: Iterable[int]) -> Iterable[list[int]]:
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for at in asked:
        first = examples[at].turns[0]
        groups[first.content if first.role == "system" else ""].append(at)
    return groups.values()


def near_duplicates(
    examples: Sequence[Example], keys: Keys, labels: Labels, tick: Tick = still
) -> list[int]:
    """Rows whose question and answer are both nearly those of an earlier row, with the same numbers.

    `labels` groups nearly equal questions. Rows that differ in a number are different facts.
    """
    groups = [group for group in members(labels) if len(group) > 1]
    found = [at for group in watched(groups, tick) for at in _near_in(group, examples, keys)]
    return sorted(found)


def _near_in(group: Sequence[int], examples: Sequence[Example], keys: Keys) -> list[int]:
    by_numbers: defaultdict[str, list[int]] = defaultdict(list)
    for at in group:
        by_numbers[" ".join(_DIGITS.findall(keys.questions[at]))].append(at)
    return [at for rows in by_numbers.values() for at in _near_among(rows, examples, keys)]


def _near_among(rows: Sequence[int], examples: Sequence[Example], keys: Keys) -> list[int]:
    found: list[int] = []
    answers: set[bytes] = set()
    questions: set[str] = set()
    compared: list[tuple[frozenset[str], list[str]]] = []
    for at in rows:
        # The same question with another answer is a conflict, and called that.
        is_new_question = keys.questions[at] not in questions
        questions.add(keys.questions[at])
        if keys.answers[at] in answers:
            found.append(at)
            continue
        answers.add(keys.answers[at])
        if len(rows) == 1 or len(compared) == _COMPARED:
            continue
        answer = _answer(examples[at])
        this = (_grams(answer), _DIGITS.findall(answer))
        if is_new_question and any(_is_near(this, other) for other in compared):
            found.append(at)
        else:
            compared.append(this)
    return found


def _answer(example: Example) -> str:
    return question_and_answer(example, [comparison_key(turn.content) for turn in example.turns])[1]


def _grams(text: str) -> frozenset[str]:
    return frozenset(text[at : at + GRAM] for at in range(max(len(text) - GRAM + 1, 1)))


def _is_near(
    left: tuple[frozenset[str], list[str]], right: tuple[frozenset[str], list[str]]
) -> bool:
    shared = len(left[0] & right[0])
    return left[1] == right[1] and shared >= NEAR * (len(left[0]) + len(right[0]) - shared)
