"""Questions in other words, made mechanically: for training, so that not one wording alone is learned.

Not those of the evaluation (`experiment_tracker.evaluation.questions`), or it would ask what was taught.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from mlx_finetuning.tokenization.rows import Row

_END = re.compile(r"[\s?？.。!！]+$")
_KANA = re.compile("[ぁ-ヿ]")
_FRAMES = (
    *("教えてください。{}", "{}、教えて", "聞きたいことがあります。{}", "{}。簡単に答えてください"),
    *("次の質問に答えてください。{}", "ところで、{}", "{}", "{}かな"),
)
_ENGLISH_FRAMES = (
    *("Please tell me: {}", "I would like to know: {}", "{}", "One question: {}?"),
    *("{}? Please answer.", "Hi, {}?", "Tell me, {}?", "Could you answer this? {}?"),
)
_ENDINGS = (
    (
        re.compile("ですか$"),
        ("でしょうか？", "か教えてください。", "ですか、教えてください。", "？"),
    ),
    (
        re.compile("(?<=ま)すか$"),
        ("すか教えてください。", "すでしょうか？", "すか。", "すか、お願いします。"),
    ),
)
"""Ends of polite questions, each with others of the same meaning."""


def reworded(question: str, number: int) -> str:
    """The question in one of its other wordings, the `number`th."""
    bare = _END.sub("", question)
    if not _KANA.search(bare):
        return _ENGLISH_FRAMES[number % len(_ENGLISH_FRAMES)].format(bare)
    at = number // 2
    for ending, others in _ENDINGS if number % 2 else ():
        if ending.search(bare):
            return ending.sub(others[at % len(others)], bare)
    return _FRAMES[at % len(_FRAMES)].format(bare)


def with_wordings(rows: Sequence[Row], share: float, seed: int) -> list[Row]:
    """The rows, and so many with their last question reworded that these are `share` of all.

    Rows without a question have none. The added ones have no number: they stand in no file.
    """
    asked = [row for row in rows if len(row.get("messages") or ()) > 1]
    count = round(share * len(asked) / (1 - share))
    order = random.Random(seed)
    added: list[Row] = []
    for number in range(-(-count // len(asked)) if asked else 0):
        some = order.sample(asked, min(len(asked), count - len(added)))
        for row in some:
            *turns, question, answer = row["messages"]
            text = reworded(question["content"], number + order.randrange(64))
            turns = [*turns, {**question, "content": text}, answer]
            added.append({**row, "row": 0, "messages": turns})
    return [*rows, *added]
