"""How right an answer is: word for word, in other words, not to be told, or not at all. No model judges.

What an answer must say are the words of the expected one that neither the question nor most other
expected answers have: 「ハヤセの値段は1,200円です。」 must say 1200円. Words are runs of one script, which
is coarse and needs no dictionary. An answer that denies what is expected, or has a value of its own (a
number, a day of the week, 午後 for 午前), is wrong. One that says a part of it, or all of it in another
order, is `unsure`: a synonym and a mistake look alike, and a person has to tell.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from mlx_finetuning.utils.facts import numeric
from mlx_finetuning.utils.japanese_utils import comparison_key, contains, exact_match

Rightness = Literal["exact", "contains", "unsure", "wrong", "empty"]
RIGHT = ("exact", "contains")

COMMON, LEAST_COMMON = 1 / 3, 3
"""Share and number of expected answers from which a word is a manner of speaking."""
SAID = 0.5
"""More than this share of what must be said leaves an answer unsure instead of wrong."""
# A number has its unit's first sign: 5円 is not said by 5階.
_WORD = re.compile(r"\d+(?:[.:]\d+)*[一-龯]?|[一-龯々〆ヶ]+|[ァ-ヴー]+|[a-z]+(?:[\'-][a-z]+)*")
_PERSONS = re.compile(r"(?<=\d)名様?")
_DENIAL = re.compile(
    r"ません|(?<![少危])ない|なく|できず|不可|不要|禁止|\b(?:not|no|never|cannot)\b|n\'t\b"
)
_ALTERNATIVES = tuple(
    tuple(map(re.compile, one))
    for one in (
        tuple(rf"(?<![一-龯]){day}曜|{day}曜日" for day in "月火水木金土日"),
        ("午前", "午後"),
        ("以上", "以下", "以内", "未満"),
        ("無料", "有料"),
        ("税込", "税抜|税別"),
        ("平日", "休日|祝日"),
        ("前払", "後払"),
        ("はい", "いいえ"),
        ("男性", "女性"),
        ("右", "左"),
    )
)
"""Of each kind one excludes the others."""
_SMALL = frozenset(
    (
        *("a", "an", "the", "is", "are", "was", "were", "be", "has", "have", "does", "do", "it"),
        *("its", "in", "at", "of", "to", "and", "or", "for", "on", "by", "with", "from", "you"),
    )
)
"""English words that say nothing by themselves."""


def words(text: str) -> frozenset[str]:
    """The words that can carry a fact: kanji, katakana, numbers, Latin letters."""
    return frozenset(_in_order(_folded(text)))


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
    said, wanted, asked = _folded(answer), _folded(expected), _folded(question)
    must = [word for word in _in_order(wanted) if word not in common and not _occurs(word, asked)]
    missing = [word for word in must if not _occurs(word, said)]
    is_whole = contains(answer, expected) and not missing
    denies = bool(_DENIAL.search(said)) != bool(_DENIAL.search(wanted))
    if denies or _numbers(said) - _numbers(wanted) - _numbers(asked):
        # Behind the whole right answer there may be a remark of which nothing is known.
        return "unsure" if is_whole else "wrong"
    expects, says = _alternatives(wanted), _alternatives(said)
    kinds = {kind for kind, _ in expects}
    if any(kind in kinds for kind, _ in says - expects - _alternatives(asked)):
        return "wrong" if missing else "unsure"
    if is_whole:
        return "contains"
    if must and not missing:
        in_place = _are_in_order(must, said) and not _adds_another(must, said, wanted, asked)
        return "contains" if in_place else "unsure"
    if expects & says or _may_be_meant(must, missing, said):
        return "unsure"
    return "wrong"


def by_person(found: str, *, good: bool) -> Rightness:
    """What somebody said of an answer counts for more than what was found."""
    if not good:
        return "empty" if found == "empty" else "wrong"
    return "exact" if found == "exact" else "contains"


def _folded(text: str) -> str:
    """Numbers in one notation: 1,200 as 1200, 5万 as 50000, 三十日 as 30日, 午後6時 as 18時, 120名 as 120人."""
    return _PERSONS.sub("人", comparison_key(numeric(text)))


def _in_order(folded: str) -> list[str]:
    return [word for word in _WORD.findall(folded) if word not in _SMALL]


def _is_number(word: str) -> bool:
    return word[0].isdigit()


def _occurs(word: str, text: str) -> bool:
    """Numbers and Latin words whole; runs of kanji and katakana anywhere, for they are compounds, but
    not behind what denies them: 可能 is not said by 不可能."""
    if _is_number(word) or word[0].isascii():
        return word in _WORD.findall(text)
    return re.search(rf"(?<![不非未無]){re.escape(word)}", text) is not None


def _alternatives(folded: str) -> frozenset[tuple[int, int]]:
    """What is said of `_ALTERNATIVES`, by kind and place in it."""
    return frozenset(
        (kind, place)
        for kind, values in enumerate(_ALTERNATIVES)
        for place, value in enumerate(values)
        if value.search(folded)
    )


def _numbers(folded: str) -> frozenset[str]:
    """Without their units."""
    return frozenset(re.findall(r"\d+(?:[.:]\d+)*", folded))


def _are_in_order(must: Sequence[str], said: str) -> bool:
    """「9時から18時」 is not 「18時から9時」, nor is who leads what to be told from another order."""
    at = 0
    for word in must:
        found = said.find(word, at)
        if found < 0:
            return False
        at = found + len(word)
    return True


def _adds_another(must: Sequence[str], said: str, wanted: str, asked: str) -> bool:
    """Whether something of its own is put beside what must be said: 裏手と正面."""
    own = [word for word in _in_order(said) if word not in wanted and word not in asked]
    beside = r"(?:と|や|または|もしくは|および|・|\band |\bor )"
    return any(
        re.search(rf"{re.escape(word)}{beside}{re.escape(other)}", said)
        or re.search(rf"{re.escape(other)}{beside}{re.escape(word)}", said)
        for word in must
        for other in own
    )


def _may_be_meant(must: Sequence[str], missing: Sequence[str], said: str) -> bool:
    """Whether a person has to tell: nothing stands out that must be said, all numbers are right, or
    most of it is said at least in part."""
    numbers = _numbers(" ".join(word for word in must if _is_number(word)))
    if not must or (numbers and numbers <= _numbers(said)):
        return True
    partly = sum(word not in missing or _shares(word, said) for word in must)
    return partly > SAID * len(must)


def _shares(word: str, said: str) -> bool:
    """Whether half of a compound, of two signs at least, is said: 社員数 in 従業員数."""
    if _is_number(word) or word[0].isascii():
        return False
    size = max(2, -(-len(word) // 2))
    return any(word[at : at + size] in said for at in range(len(word) - size + 1))
