"""What a column holds, judged from some of its cells: prose, short labels, flags, dates and numbers,
nothing. Tells a column of answers from one of dates where the names leave it open."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_LONGEST = 300
"""Letters of a cell that are looked at."""
SAMPLE = 200
"""Cells looked at at most, spread over the file."""

_META = re.compile(
    r"""(?x)
    [\d\s/.:\-年月日時分秒()（）月火水木金土日祝曜TZ+APMapm,]+ # dates, times, numbers
    | [A-Za-z]{0,5}[-_#]?[0-9][0-9A-Za-z\-_]* # ids
    | <?@?U[0-9A-Z]{2,}>?
    | [\w.+-]+@[\w-]+(?:\.[\w-]+)+
    | https?://\S+
    | [0-9a-fA-F]{8}-[0-9a-fA-F-]{27}
    """
)
_FLAGS = frozenset(
    "0 1 true false yes no y n on off ok ng t f 可 不可 否 要 不要 済 済み 未 未対応 未回答 対応済 対応済み 回答済"
    " 回答済み 完了 未完了 有 無 あり なし ○ × ◯ ✕ ✓ ☑ - － ― 公開 非公開 下書き open closed done draft".split()
)
_SENTENCE = re.compile(r"[。！？!?]|です|ます|だ$|ません|ください|\w+\s+\w+\s+\w+")

STRUCTURED = ("[", "{", "array(")
"""How lists and objects begin, as JSON, Python and NumPy write them."""
ASKING = re.compile(
    r"(?:[?？]|か|たい(?:のですが|です)?|(?:教えて|ほしい|欲しい|とは|ください)[^。]{0,4})。?$"
)
"""How a question or a request ends."""


@dataclass(frozen=True)
class Content:
    """Shares of the cells that are not blank, 0 to 1."""

    filled: float
    """Of all cells."""
    meta: float
    flags: float
    distinct: float
    length: float
    """Mean characters."""
    structured: float
    """Lists and objects, or their text."""
    sentences: float = 1.0

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing to learn in it: blank, dates, numbers or marks."""
        return self.filled == 0 or self.meta > 0.8 or self.flags > 0.8

    @property
    def is_constant(self) -> bool:
        """Whether all cells say the same."""
        return self.distinct == 0

    @property
    def is_varied(self) -> bool:
        """Whether nearly every cell says something else, be it a few words."""
        return not self.is_nothing and self.distinct > 0.8 and self.length >= 4

    @property
    def is_prose(self) -> bool:
        """Whether somebody wrote it: long enough, not always the same, sentences."""
        return (
            not self.is_nothing
            and not self.is_constant
            and self.distinct > 0.2
            and (self.sentences > 0.3 or self.length >= 15)
            and self.length >= 4
        )


UNKNOWN = Content(1, 0, 0, 1, 20, 1)
"""Of a table without records."""


def content_of(values: Sequence[Any]) -> Content:
    """Judges `values`, the cells of one column; UNKNOWN where there are none."""
    if not values:
        return UNKNOWN
    begun = (str(cell)[:_LONGEST].strip() for cell in values if cell is not None)
    texts = [text for text in begun if text]
    if not texts:
        return Content(0, 0, 0, 0, 0, 0)
    count = len(texts)

    def share(test: Any) -> float:
        return sum(bool(test(text)) for text in texts) / count

    distinct = len({*texts})
    return Content(
        filled=count / len(values),
        meta=share(_META.fullmatch),
        flags=share(lambda text: text.casefold() in _FLAGS),
        distinct=0 if distinct == 1 and count >= 5 else distinct / count,
        length=sum(map(len, texts)) / count,
        structured=share(lambda text: text.startswith(STRUCTURED)),
        sentences=share(_SENTENCE.search),
    )


def asks(values: Sequence[Any]) -> bool:
    """Whether most cells ask for something."""
    texts = [str(cell)[-_LONGEST:].strip() for cell in values if cell is not None]
    return sum(ASKING.search(text) is not None for text in texts) * 2 > len(texts)


def is_verdict(values: Sequence[Any], *, is_counted: bool = False, is_weight: bool = False) -> bool:
    """Whether the cells say good or bad of each row, as KTO's `label` does. Numbers say neither where
    something is counted; as weights of rows they lie between 0 and 1."""
    texts = {str(cell).strip().casefold() for cell in values if cell is not None} - {""}
    if is_weight:
        return bool(texts) and all(re.fullmatch(r"0|1|0?\.\d+|1\.0+", text) for text in texts)
    if is_counted and any(text.lstrip("-").replace(".", "", 1).isdigit() for text in texts):
        return False
    texts -= _UNDECIDED if is_counted else set()
    return bool(texts) and texts <= GOOD | BAD


def is_good(cell: Any) -> bool | None:
    """What a cell says of its row; None where it says neither good nor bad."""
    text = str(cell).strip().casefold()
    return True if text in GOOD else False if text in BAD else None


def low_rated(records: Sequence[tuple[int, Sequence[Any]]], at: int) -> list[int]:
    """Row numbers of records with few points in the column at `at`, on scales to 5 or 10; none where the
    cells are no such points."""
    cells = {row: str(values[at]).strip() for row, values in records if values[at] is not None}
    points = {
        row: float(cell)
        for row, cell in cells.items()
        if re.fullmatch(r"\d{1,2}(?:\.\d{1,9})?", cell)
    }
    if len(points) < len(cells) or len({*points.values()}) < 2:
        return []
    lowest, highest = min(points.values()), max(points.values())
    if highest <= 1 or highest > 10:
        return []
    few = 3 if highest > 5 else 2 if lowest >= 1 else 1
    return [row for row, point in points.items() if point <= few]


_UNDECIDED = frozenset(
    "pending review reviewing new open 保留 未確認 確認中 レビュー中 未判定".split()
)
"""States that are no verdict yet."""
GOOD = frozenset(
    "true 1 1.0 up good 👍 良い 良 ○ 〇 ◯ ◎ thumbs_up thumbsup desirable positive 高評価 正 正解 正しい 採用 "
    "like approved accepted accept correct ok 合格 満足".split()
)
BAD = frozenset(
    "false 0 0.0 -1 -1.0 down bad 👎 悪い 悪 × ✕ ✖ ❌ thumbs_down thumbsdown undesirable negative 低評価 誤 誤り "
    "不正解 間違い 不採用 dislike rejected reject incorrect wrong ng 却下 不合格 不満".split()
)
