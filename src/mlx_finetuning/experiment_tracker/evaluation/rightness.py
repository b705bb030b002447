"""How right an answer is: word for word, in other words, or not at all. No model judges.

What an answer must say are the words of the expected one that neither the question nor most other
expected answers have: 「ハヤセの値段は1,200円です。」 must say 1200. Words are runs of one script, which
is coarse and needs no dictionary; an answer that denies what is expected, or brings a number of its
own, is wrong.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Literal

from mlx_finetuning.utils.japanese_utils import comparison_key, contains, exact_match

Rightness = Literal["exact", "contains", "wrong", "empty"]
RIGHT = ("exact", "contains")

COMMON, LEAST_COMMON = 1 / 3, 3
"""Share and number of expected answers from which a word is a manner of speaking."""
_WORD = re.compile(r"[一-龯々〆ヶ]+|[ァ-ヴー]+|\d+(?:[.:]\d+)*|[a-z]+(?:[\'-][a-z]+)*")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3})")
_DENIAL = re.compile(
    r"ません|(?<![少危])ない|なく|できず|不可|不要|禁止|\b(?:not|no|never|cannot)\b|n\'t\b"
)
_SMALL = frozenset(
    (
        *("a", "an", "the", "is", "are", "was", "were", "be", "has", "have", "does", "do", "it"),
        *("its", "in", "at", "of", "to", "and", "or", "for", "on", "by", "with", "from", "you"),
    )
)
"""English words that say nothing by themselves."""


def words(text: str) -> frozenset[str]:
    """The words that can carry a fact: kanji, katakana, numbers, Latin letters."""
    return frozenset(_WORD.findall(_folded(text))) - _SMALL


def common_words(answers: Iterable[str]) -> frozenset[str]:
    """The words that many of the answers have."""
    said = [words(answer) for answer in answers]
    counts = Counter(word for one in said for word in one)
    least = max(LEAST_COMMON, COMMON * len(said))
    return frozenset(word for word, count in counts.items() if count >= least)


def rightness(
    answer: str,
    expected: str,
    question: str,
    common: frozenset[str] = frozenset(),
    *,
    is_label: bool = False,
) -> Rightness:
    """common: what needs not be said, as `common_words` finds it; is_label: right word for word or
    not at all."""
    if not answer.strip():
        return "empty"
    if exact_match(answer, expected):
        return "exact"
    if is_label:
        return "wrong"
    if contains(answer, expected):
        return "contains"
    asked, said = _folded(question), _folded(answer)
    must = [word for word in words(expected) - common if not _occurs(word, asked)]
    if not must or not all(_occurs(word, said) for word in must):
        return "wrong"
    own_numbers = words(answer) - words(expected) - words(question)
    if any(word[0].isdigit() for word in own_numbers):
        return "wrong"
    if bool(_DENIAL.search(said)) != bool(_DENIAL.search(_folded(expected))):
        return "wrong"
    return "contains"


def _folded(text: str) -> str:
    return _THOUSANDS.sub("", comparison_key(text))


def _occurs(word: str, text: str) -> bool:
    """Numbers and Latin words whole; runs of kanji and katakana anywhere, for they are compounds."""
    if word[0].isdigit() or word[0].isascii():
        return word in _WORD.findall(text)
    return word in text
