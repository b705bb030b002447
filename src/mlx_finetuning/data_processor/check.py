"""Checks over examples: what cannot be trained on, and what deserves a look, by source row.

Judges rows only; changes nothing and drops nothing itself: `usable` leaves out the error rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from mlx_finetuning.data_processor.examples import Example
from mlx_finetuning.data_processor.findings import Finding, finding
from mlx_finetuning.utils.japanese_utils import is_mojibake


def check(examples: Sequence[Example]) -> tuple[list[Example], list[Finding]]:
    """The rows that can be trained on, and the findings about all."""
    found: list[Finding] = []
    usable = list(examples)
    for code, is_bad in _ROW_ERRORS:
        bad = [example.row for example in usable if is_bad(example)]
        if bad:
            usable = [example for example in usable if not is_bad(example)]
            found.append(finding(code, bad))
    usable, doubles = _without_duplicates(usable)
    found += _present("DUPLICATE", doubles)
    found += _present("CONFLICT", _conflicts(usable))
    found += _present("ANSWER_REPEATS_QUESTION", _repeats(usable))
    return usable, found


def _present(code: str, rows: Sequence[int]) -> list[Finding]:
    return [finding(code, rows)] if rows else []


def _has_empty_question(example: Example) -> bool:
    roles = ("user", "prompt", "text")
    return any(not turn.content.strip() for turn in example.turns if turn.role in roles)


def _has_empty_answer(example: Example) -> bool:
    roles = ("assistant", "chosen", "rejected")
    return any(
        not turn.content.strip() and not turn.extra for turn in example.turns if turn.role in roles
    )


def _has_bad_order(example: Example) -> bool:
    """system first or never; then user and assistant in turn, tools in between; assistant last."""
    roles = [turn.role for turn in example.turns]
    if roles[0] in ("text", "prompt"):
        return False
    if roles[0] == "system":
        roles = roles[1:]
    spoken = [role for role in roles if role != "tool"]
    if not spoken or spoken[0] != "user" or roles[-1] != "assistant" or "system" in roles:
        return True
    calls = any(turn.extra or turn.role == "tool" for turn in example.turns)
    # After a tool's result the assistant speaks again.
    return not calls and any(a == b for a, b in pairwise(spoken))


def _has_mojibake(example: Example) -> bool:
    return any(is_mojibake(turn.content) for turn in example.turns)


_ROW_ERRORS = (
    ("EMPTY_QUESTION", _has_empty_question),
    ("EMPTY_ANSWER", _has_empty_answer),
    ("ROLE_ORDER", _has_bad_order),
    ("MOJIBAKE", _has_mojibake),
)


def _without_duplicates(examples: Sequence[Example]) -> tuple[list[Example], list[int]]:
    """The first of each question and answer, and the rows of the others."""
    seen: set[tuple[str, ...]] = set()
    kept, doubles = [], []
    for example in examples:
        if example.keys in seen:
            doubles.append(example.row)
        else:
            seen.add(example.keys)
            kept.append(example)
    return kept, doubles


def _conflicts(examples: Sequence[Example]) -> list[int]:
    """Rows whose question (and system text) occurs with another answer too."""
    same: defaultdict[tuple[str, str], list[Example]] = defaultdict(list)
    for example in examples:
        system = example.keys[0] if example.turns[0].role == "system" else ""
        same[system, example.question_key].append(example)
    return sorted(
        example.row
        for asked in same.values()
        if len({example.answer_key for example in asked}) > 1
        for example in asked
    )


def _repeats(examples: Sequence[Example]) -> list[int]:
    return [
        example.row
        for example in examples
        if example.answer_key and example.answer_key == example.question_key
    ]
