"""Japanese verbs before 「ます」 as their plain forms, where these follow from the letters."""

from __future__ import annotations

import re

_I_TO_U = dict(zip("いきぎしちにびみり", "うくぐすつぬぶむる", strict=True))
_E_ROW = "えけげせてねべめれ"
_ONE_ROW = (
    *(
        "でき",
        "降り",
        "起き",
        "借り",
        "足り",
        "過ぎ",
        "落ち",
        "閉じ",
        "感じ",
        "信じ",
        "生き",
        "浴び",
    ),
    *("延び", "伸び", "おり", "用い", "見", "着", "似", "煮"),
)
"""Stems in -i that only get a る."""
_DOES = re.compile(r"(?:[一-龯]{2}|[ァ-ヴー]|を|どう|お願い|いくら|せ)し$")
"""「予約し」, 「キャンセルし」 and 「どうし」, but not 「貸し」."""
_SHORTENED = ("てい", "でい")
"""「開いています」: people say 「開いてる」."""
_PAST = {
    "い": "った",
    "ち": "った",
    "り": "った",
    "き": "いた",
    "ぎ": "いだ",
    "し": "した",
    "に": "んだ",
    "び": "んだ",
    "み": "んだ",
}


def plain_present(stem: str) -> str:
    """「使え」 → 「使える」; empty where letters do not tell."""
    if stem.endswith(_SHORTENED):
        return f"{stem[:-1]}る"
    if stem.endswith(("いたし", "ござい", "いらっしゃい", "いただき")):
        return ""  # polite by themselves
    if _is_one_row(stem):
        return f"{stem}る"
    if _DOES.search(stem):
        return f"{stem[:-1]}する"
    return f"{stem[:-1]}{_I_TO_U[stem[-1]]}" if stem[-1:] in _I_TO_U else ""


def plain_past(stem: str) -> str:
    """「設立され」 → 「設立された」; empty where letters do not tell."""
    if stem.endswith(("いたし", "ござい", "いらっしゃい", "いただき")):
        return ""
    if _is_one_row(stem) or stem.endswith(_SHORTENED):
        return f"{stem}た"
    if stem.endswith("行き"):
        return f"{stem[:-1]}った"
    return f"{stem[:-1]}{_PAST[stem[-1]]}" if stem[-1:] in _PAST else ""


def _is_one_row(stem: str) -> bool:
    # 「い」 by itself is 「います」; behind other letters it belongs to another verb, as in 「買い」.
    return stem[-1:] in _E_ROW or stem.endswith((*_ONE_ROW, "にい", "がい", "はい", "もい"))
