"""Tables that a text file draws: cells between bars (MySQL, psql, Markdown), or columns held apart by blanks
(sqlplus, fixed width). Split only where every line agrees on the borders."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

from mlx_finetuning.data_processor.readers.cells import known_words
from mlx_finetuning.data_processor.readers.header import SourceRow

_FEWEST = 3
"""Lines of a table: its header and two records."""
_TITLES = 5
"""Lines above the header of a table of fixed width."""
_BAR = re.compile(r"(?<!\\)[|│┃║]")
_RULE = re.compile(r"[\s+|:=─━═┌┬┐├┼┤└┴┘┏┳┓┣╋┫┗┻┛╔╦╗╠╬╣╚╩╝┠┨┯┷┿╂-]+")
_DRAWN = re.compile("[-=─━═]{3}")
_COUNT = re.compile(r"\(?\d+\s?(?:rows?|records?|件|行).*", re.IGNORECASE)
"""What databases write below a table."""
_GAP = re.compile(r"[ \u3000]{2,}|\u3000|\t")
_ALIGNED = re.compile(r"\S(?:[ \u3000]{2,}+|\u3000)\S")


def between_bars(text: str) -> list[SourceRow]:
    """The rows of a table drawn with bars and at least one rule, whose first row names questions or answers;
    nothing for other texts."""
    lines = _written(text)
    bare = [(number, line) for number, line in lines if not _is_rule(line)]
    if len(bare) == len(lines) or len(bare) < _FEWEST:
        return []
    rows = [(number, _BAR.split(line.strip())) for number, line in bare]
    if all(not cells[0].strip() and not cells[-1].strip() for _, cells in rows):
        rows = [(number, cells[1:-1]) for number, cells in rows]
    rows = [(number, [cell.strip() for cell in cells]) for number, cells in rows]
    is_even = len({len(cells) for _, cells in rows}) == 1 < len(rows[0][1])
    return rows if is_even and known_words(rows[0][1]) > 1 else []


def in_fixed_columns(text: str) -> list[SourceRow] | None:
    """The rows of a table whose columns begin at the same place in each line, or are parted alike by blanks;
    None where blanks hold named columns apart, and where they begin cannot be told. Nothing for others."""
    lines = [(number, line) for number, line in _written(text) if not _is_rule(line)]
    head = next(
        (at for at, (_, line) in enumerate(lines[:_TITLES]) if known_words(_split(line)) > 1), None
    )
    if head is None or not are_aligned([line for _, line in lines[head:]]):
        return []
    lines = lines[head:]
    for width in (_shown, len):
        cut = [(number, _cut(line, _starts(lines[0][1], width), width)) for number, line in lines]
        rows = [(number, cells) for number, cells in cut if cells is not None]
        if len(rows) == len(cut):
            return rows
    parted = [(number, _split(line)) for number, line in lines]
    return parted if len({len(cells) for _, cells in parted}) == 1 else None


def are_aligned(lines: Sequence[str]) -> bool:
    """Whether blanks put the parts of lines below one another, as in a table of fixed width."""
    written = [line for line in lines if line.strip()]
    aligned = sum(_ALIGNED.search(line) is not None for line in written)
    return len(written) >= _FEWEST and aligned > 0.8 * len(written)


def _written(text: str) -> list[SourceLine]:
    """Lines with their numbers, without blank ones and a count of rows at the end."""
    numbered = enumerate(text.splitlines(), 1)
    lines = [(number, line.rstrip()) for number, line in numbered if line.strip()]
    return lines[:-1] if lines and _COUNT.fullmatch(lines[-1][1].strip()) else lines


SourceLine = tuple[int, str]


def _is_rule(line: str) -> bool:
    return _RULE.fullmatch(line) is not None and _DRAWN.search(line) is not None


def _split(line: str) -> list[str]:
    return _GAP.split(line.strip())


def _shown(text: str) -> int:
    """Columns of a terminal that a text takes."""
    return sum(2 if unicodedata.east_asian_width(sign) in "FWA" else 1 for sign in text)


def _starts(header: str, width: Callable[[str], int]) -> list[int]:
    """Where the columns begin that a header names."""
    ends = [match.end() for match in _GAP.finditer(header.rstrip())]
    return [width(header[:end]) for end in dict.fromkeys([0, *ends])]


def _cut(line: str, starts: Sequence[int], width: Callable[[str], int]) -> list[str] | None:
    """The cells of a line; None where something stands across the start of a column."""
    places, reached = [], 0
    for sign in line:
        places.append(reached)
        reached += width(sign)
    cuts = []
    for start in starts:
        at = next((at for at, place in enumerate(places) if place >= start), len(line))
        if at < len(line) and (places[at] != start or (at and not line[at - 1].isspace())):
            return None
        cuts.append(at)
    return [line[a:b].strip() for a, b in zip(cuts, [*cuts[1:], len(line)], strict=True)]
