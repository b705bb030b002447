"""Small pure functions on Japanese text: keys for comparison, character classes, mojibake.

Comparison keys are for comparing only; training text is never rewritten with them (NFKC turns
① into 1 and ㈱ into (株)). Does not tokenise and needs no dictionary.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

# NFKC leaves these apart although CP932 converters write either one for the same key press.
_SAME_SIGN = {"〜": "~", "−": "-", "‐": "-", "‑": "-", "–": "-"}
_SIGNS = re.compile("[〜−‐‑–]")  # str.translate would take twenty times as long
_TRAILING = " 。．.、,!?…"

_SUSPECTS = re.compile("[�\ud800-\udfff縺繧繝譁ÃÂâãäåæç‚ƒ\uff61-\uff9f]")
_BROKEN = re.compile("[�\ud800-\udfff]")  # half of a pair comes from a cut escape in JSON
_UTF8_AS_CP932 = re.compile("[縺繧繝]")  # every second or third sign, where kana were
_EUC_AS_CP932 = re.compile("[､･]")
_HIRAGANA = re.compile("[ぁ-ゖ]")
_JAPANESE = re.compile("[ぁ-ヿ一-鿿]")
# Half-width kana can pass for EUC-JP kanji, but never for hiragana.
_MISREADINGS = (
    ("cp932", "utf-8", _JAPANESE),
    ("cp1252", "utf-8", _JAPANESE),
    ("latin-1", "utf-8", _JAPANESE),
    ("cp932", "euc_jp", _HIRAGANA),
)

_CLASSES = (
    ("hiragana", re.compile("[ぁ-ゟ]")),
    ("katakana", re.compile("[゠-ヿㇰ-ㇿ]")),
    ("halfwidth_kana", re.compile("[\uff61-\uff9f]")),
    ("kanji", re.compile("[々〆〇㐀-䶿一-鿿豈-\ufaff\U00020000-\U0003ffff]")),
    ("fullwidth_alnum", re.compile("[０-９Ａ-Ｚａ-ｚ]")),
    ("digit", re.compile("[0-9]")),
    ("latin", re.compile("[A-Za-z]")),
    ("space", re.compile(r"\s")),
    ("punctuation", re.compile("[、。・「」『』（）！？…ー～〜,.!?\"'():;-]")),
)


def normalised(text: str) -> str:
    """`text` under NFKC, with equal-looking signs made equal and runs of whitespace as one space."""
    folded = " ".join(unicodedata.normalize("NFKC", text).split())
    return _SIGNS.sub(lambda sign: _SAME_SIGN[sign.group()], folded)


def comparison_key(text: str) -> str:
    """`normalised`, without case and trailing punctuation: equal for rows that say the same words."""
    return normalised(text).casefold().rstrip(_TRAILING)


def exact_match(answer: str, expected: str) -> bool:
    """Whether both are the same characters after NFKC and whitespace folding."""
    return normalised(answer) == normalised(expected)


def contains(answer: str, expected: str) -> bool:
    """Whether `expected`, not empty, occurs in `answer` after NFKC and whitespace folding."""
    wanted = comparison_key(expected)
    return bool(wanted) and wanted in comparison_key(answer)


def is_mojibake(text: str) -> bool:
    """Whether `text` shows the marks of bytes read in the wrong encoding.

    Replacement characters and broken pairs; many of the signs that kana become under CP932; or text that turns into
    Japanese when the reading is undone.
    """
    if not _SUSPECTS.search(text):
        return False
    marks = max(len(sign.findall(text)) for sign in (_UTF8_AS_CP932, _EUC_AS_CP932))
    if _BROKEN.search(text) or (marks > 2 and marks * 8 >= len(text)):
        return True
    return any(_undone(text, *misreading) for misreading in _MISREADINGS)


def _undone(text: str, wrong: str, right: str, sign: re.Pattern[str]) -> bool:
    """Whether reading the bytes again, the right way, gives what `sign` finds in Japanese."""
    try:
        return bool(sign.search(text.encode(wrong).decode(right)))
    except UnicodeError:
        return False


def character_classes(text: str) -> dict[str, int]:
    """How many characters of each class `text` has; the rest is `other`."""
    counts: dict[str, int] = {name: 0 for name, _ in _CLASSES} | {"other": 0}
    for character, count in Counter(text).items():
        counts[_class_of(character)] += count
    return counts


def _class_of(character: str) -> str:
    return next((name for name, pattern in _CLASSES if pattern.match(character)), "other")
