"""Rows with their questions in other words, made by rules, for a run that asks for a share of them.

The setting `wordings`: what a tuning tries beside rate and rank. Whoever wants to look at other
wordings, or have them made by a model, adds them to the dataset (`tasks.reword`).
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence

from mlx_finetuning.tokenization.rows import Row

_END = re.compile(r"[\s?？.。!！]+$")
_KANA = re.compile("[ぁ-ヿ]")
_ENGLISH = ("Please tell me: {}", "I would like to know: {}", "{}", "Could you answer this? {}?")
"""The rules know Japanese only."""


def with_wordings(rows: Sequence[Row], share: float, seed: int) -> list[Row]:
    """The rows, and so many with their last question reworded that these are `share` of all, as far as
    the rules go. The added ones have no number: they stand in no file."""
    asked = [row for row in rows if len(row.get("messages") or ()) > 1]
    count = round(share * len(asked) / (1 - share))
    if not count:
        return list(rows)
    order = random.Random(seed)
    shuffled = order.sample(asked, len(asked))
    by_row = [_reworded(row, seed) for row in shuffled]
    # A wording of every row before a second one of any.
    made = [row for some in itertools.zip_longest(*by_row) for row in some if row is not None]
    return [*rows, *made[:count]]


def _reworded(row: Row, seed: int) -> list[Row]:
    # A quarter of a training's imports, for what few runs ask for.
    from mlx_finetuning.data_processor.wordings import rules

    *turns, question, answer = row["messages"]
    text = str(question["content"])
    others = [one.text for one in rules.wordings(text, seed=seed)]
    if not _KANA.search(text):
        others = [frame.format(_END.sub("", text)) for frame in _ENGLISH]
    return [
        {**row, "row": 0, "messages": [*turns, {**question, "content": other}, answer]}
        for other in others
    ]
