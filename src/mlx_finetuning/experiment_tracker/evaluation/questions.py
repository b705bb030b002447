"""Which rows are asked: an even choice, other wordings of trained questions, and mismatched pairs.

Works on dataset rows; asks nothing itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from mlx_finetuning.tokenization.rows import Row

T = TypeVar("T")

PARTNERS = 4
"""Answers of other rows that each question is paired with."""
PAIRED = 100
"""Questions at most that are paired, and that are reworded."""
_REWORDINGS = (
    "すみません、{}",
    "質問があります。{}",
    "{}教えていただけますか？",
    "念のため聞きます。{}",
)


def evenly(rows: Sequence[T], count: int) -> list[T]:
    """At most `count` of `rows`, spread over all of them, in their order."""
    if len(rows) <= count:
        return list(rows)
    return [rows[at * len(rows) // count] for at in range(count)]


def distinct(rows: Sequence[Row]) -> list[Row]:
    """Each question once, where rows are repeated to be trained more often."""
    return list({json.dumps(row, sort_keys=True): row for row in rows}.values())


def takes_turns(row: Row) -> bool:
    """Whether user and assistant do, so that it can be asked, marked and put right."""
    roles = [turn["role"] for turn in row.get("messages") or () if turn["role"] != "system"]
    return len(roles) > 1 and roles == ["user", "assistant"] * (len(roles) // 2)


def is_paraphrase(row: Row, trained_groups: frozenset[str]) -> bool:
    """Whether the row asks in other words for what was trained."""
    return row.get("group") in trained_groups


def groups(rows: Sequence[Row]) -> frozenset[str]:
    """The paraphrase groups of `rows`."""
    return frozenset(str(row["group"]) for row in rows if row.get("group"))


def reworded(rows: Sequence[Row]) -> list[Row]:
    """Some trained questions in a wording that is not in the data, made mechanically."""
    trained = {row["messages"][-2]["content"] for row in rows}
    changed: list[Row] = []
    for at, row in enumerate(evenly(rows, PAIRED)):
        *turns, question, answer = row["messages"]
        content = _REWORDINGS[at % len(_REWORDINGS)].format(question["content"])
        if content not in trained:
            turns = [*turns, {**question, "content": content}, answer]
            changed.append({**row, "messages": turns})
    return changed


@dataclass(frozen=True)
class Mismatch:
    """A question with the answer to another one."""

    owner: int
    """Index of the row whose question it is."""
    row: Row


def mismatched(rows: Sequence[Row]) -> list[Mismatch]:
    """Up to `PAIRED` questions with the answers of up to `PARTNERS` other rows that are not theirs.

    Deterministic. Empty where all answers are the same.
    """
    mismatches = []
    for owner in evenly(range(len(rows)), PAIRED):
        *turns, own_answer = rows[owner]["messages"]
        # From the row behind on, so that every answer is used about equally often.
        following = [rows[(owner + step) % len(rows)] for step in range(1, len(rows))]
        answers = [row["messages"][-1] for row in following]
        others = {turn["content"]: turn for turn in answers}
        others.pop(own_answer["content"], None)
        mismatches += [
            Mismatch(owner, {**rows[owner], "messages": [*turns, answer]})
            for answer in evenly(list(others.values()), PARTNERS)
        ]
    return mismatches
