"""Whether a model says that it does not know where the data does not tell, and answers where it does.

Questions without an answer are rows that are marked so (`refusal`); an answer refuses if it says so in
the usual words, or in those of the marked rows. Judges by counts alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mlx_finetuning.experiment_tracker.evaluation.results import Refusing
from mlx_finetuning.language import _, sentences
from mlx_finetuning.utils.japanese_utils import chrf, comparison_key

ENOUGH, HALF = 0.7, 0.35
"""Shares of refused questions without an answer: from here green, below here red."""
MOST_LOST = 0.03
"""Share of questions with an answer that may be refused."""
SAME = 0.8
"""chrF from which an answer is in a refusal's words."""
_REFUSES = re.compile(
    r"(?:わか|分か|判)(?:りません|りかねます|らない)|(?:お答え|回答)(?:できません|できない|できかねます|いたしかねます)"
    r"|(?:知りません|存じません|存じ上げません)|(?:情報|記載|資料|データ)(?:が|は|に)(?:ありません|ございません|ない)"
)


@dataclass(frozen=True)
class Reply:
    """A question with what the tuned model said."""

    expected: str
    answer: str
    is_right: bool
    unanswerable: bool
    """The data does not tell; `expected` is a refusal."""
    held_out: bool


def is_refusal(answer: str, texts: frozenset[str] = frozenset()) -> bool:
    """Whether an answer says that it is none; texts: refusals of the data, in its own words."""
    if _REFUSES.search(answer):
        return True
    key = comparison_key(answer)
    return any(comparison_key(text) in key or chrf(answer, text) >= SAME for text in texts)


def refusing(replies: Sequence[Reply]) -> Refusing | None:
    """What is to be said of a run whose data has such questions; None of others. Held-out ones count
    where there are any."""
    marked = [one for one in replies if one.unanswerable]
    if not marked:
        return None
    texts = frozenset(one.expected for one in marked)
    held_out = [one for one in marked if one.held_out]
    asked = held_out or marked
    known = [one for one in replies if not one.unanswerable]
    refused = sum(is_refusal(one.answer, texts) for one in asked)
    empty = sum(not one.answer.strip() for one in asked)
    lost = sum(is_refusal(one.answer, texts) for one in known if not one.is_right)
    wrong = sum(not one.is_right and bool(one.answer.strip()) for one in known) - lost
    share, lost_share = refused / len(asked), lost / max(len(known), 1)
    what = (
        _("データに答えのない質問（教えていないもの）") if held_out else _("データに答えのない質問")
    )
    text = _("{what}{asked}問中{refused}問を断りました。").format(
        what=what, asked=len(asked), refused=refused
    )
    if known:
        added = _("答えのある{known}問では、{lost}問を誤って断りました。")
        text = sentences(text, added.format(known=len(known), lost=lost))
    confident = len(asked) - refused - empty
    level, advice = "good", ""
    if lost_share > MOST_LOST:
        level = "warning"
        advice = _(
            "断る質問の割合（--share）を減らすか、聞き方の言い換えを足して、もう一度学習してください。"
        )
    if share < ENOUGH:
        level = "bad" if share < HALF else "warning"
        advice = _("断る質問（データにない質問）を足して、もう一度学習してください。")
    return Refusing(
        state="refuses"
        if level == "good"
        else "refuses_too_much"
        if share >= ENOUGH
        else "guesses",
        level=level,
        text=text,
        evidence=(
            _(
                "答えのある{known}問: 正解 {right}問、まちがった答え {wrong}問、断った {lost}問"
            ).format(
                known=len(known),
                right=sum(one.is_right for one in known),
                wrong=wrong,
                lost=lost,
            ),
            _(
                "{what}{asked}問: 断った {refused}問、知らないのに答えた {confident}問、何も答えない {empty}問"
            ).format(
                what=what, asked=len(asked), refused=refused, confident=confident, empty=empty
            ),
        ),
        advice=advice,
        unanswerable=len(asked),
        refused=refused,
        confident_wrong=confident,
        known=len(known),
        known_right=sum(one.is_right for one in known),
        known_wrong=wrong,
        known_refused=lost,
        held_out=bool(held_out),
    )
