"""The data in the question instead of in the weights: which rows, and the question that holds them.

Rows near a question are found by BM25 (Robertson and Zaragoza 2009) over runs of two and three
characters, which needs no dictionary and no service. Asks nothing itself.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from mlx_finetuning.tokenization.reasoning import answer_of
from mlx_finetuning.tokenization.rows import Row
from mlx_finetuning.utils.japanese_utils import comparison_key

K1, B = 1.2, 0.75
"""BM25's usual constants: how soon repeating stops to count, and how much length does."""
LENGTHS = (2, 3)
"""Characters of a term."""
NEAREST = 5
"""Rows that are put beside a question."""
_TOLD = "次の資料を使って、最後の質問に答えてください。答えだけを書いてください。\n\n{rows}\n\n質問: {question}"


class NearestRows:
    """An index of rows, by the characters of their questions and answers."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._terms = [Counter(_terms(told(row))) for row in rows]
        self._lengths = [terms.total() for terms in self._terms]
        self._mean = sum(self._lengths) / max(len(rows), 1)
        self._held = Counter(term for terms in self._terms for term in terms)

    def of(self, question: str, count: int = NEAREST) -> list[Row]:
        """The nearest rows, the nearest first; of equally near ones the earlier."""
        asked = set(_terms(question))
        scored = sorted(range(len(self._rows)), key=lambda at: (-self._score(asked, at), at))
        return [self._rows[at] for at in scored[:count]]

    def _score(self, asked: set[str], at: int) -> float:
        terms, score = self._terms[at], 0.0
        length = K1 * (1 - B + B * self._lengths[at] / max(self._mean, 1e-9))
        for term in asked & terms.keys():
            held = self._held[term]
            rarity = math.log(1 + (len(self._rows) - held + 0.5) / (held + 0.5))
            score += rarity * terms[term] * (K1 + 1) / (terms[term] + length)
        return score


def _terms(text: str) -> Iterator[str]:
    key = comparison_key(text)
    for length in LENGTHS:
        yield from (key[at : at + length] for at in range(len(key) - length + 1))


def told(row: Row) -> str:
    """A row as it stands in a question."""
    turns = row["messages"]
    return f"質問: {turns[-2]['content']}\n答え: {answer_of(turns[-1])}"


def with_rows(row: Row, rows: Sequence[Row]) -> Row:
    """The row with `rows` in its question."""
    *turns, question, answer = row["messages"]
    content = _TOLD.format(rows="\n\n".join(map(told, rows)), question=question["content"])
    return {**row, "messages": [*turns, {**question, "content": content}, answer]}


def fitting(rows: Sequence[Row], fits: Callable[[Sequence[Row]], bool]) -> list[Row]:
    """As many of `rows` as fit, from the first on."""
    least, most = 0, len(rows)
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if fits(rows[:middle]) else (least, middle - 1)
    return list(rows[:least])
