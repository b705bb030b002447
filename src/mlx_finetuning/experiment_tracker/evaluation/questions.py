"""Which rows are asked: an even choice, other wordings of trained questions, and mismatched pairs.

Works on dataset rows; asks nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Row = dict[str, Any]
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


def is_paraphrase(row: Row, trained_groups: frozenset[str]) -> bool:
    """Whether the row asks in other words for what was trained."""
    return row.get("group") in trained_groups


def groups(rows: Sequence[Row]) -> frozenset[str]:
    """The paraphrase groups of `rows`."""
    return frozenset(str(row["group"]) for row in rows if row.get("group"))


def reworded(rows: Sequence[Row]) -> list[Row]:
    """Some trained questions in a wording that is not in the data, made mechanically."""
    trained = {row["messages"][-2]["content"] for row in rows}
    chosen = enumerate(evenly(rows, PAIRED))
    made = [_reworded(row, _REWORDINGS[at % len(_REWORDINGS)]) for at, row in chosen]
    return [row for row in made if row["messages"][-2]["content"] not in trained]


def _reworded(row: Row, form: str) -> Row:
    *turns, asked, answer = row["messages"]
    wording = {**asked, "content": form.format(asked["content"])}
    return {**row, "messages": [*turns, wording, answer]}


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
    return [
        Mismatch(owner, _answered_by(rows[owner], other))
        for owner in evenly(range(len(rows)), PAIRED)
        for other in _others(rows, owner)
    ]


def _answered_by(row: Row, other: dict[str, str]) -> Row:
    return {**row, "messages": [*row["messages"][:-1], other]}


def _others(rows: Sequence[Row], owner: int) -> list[dict[str, str]]:
    own = rows[owner]["messages"][-1]["content"]
    # From the row behind on, so that every answer is used about equally often.
    following = [rows[(owner + step) % len(rows)]["messages"][-1] for step in range(1, len(rows))]
    different = list(
        {turn["content"]: turn for turn in following if turn["content"] != own}.values()
    )
    return evenly(different, PARTNERS)
