"""Rows of cells that are no table yet: questions beside one another with their answers below, or questions
and answers below one another under marks (Q1, A1). Made a table, and said."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import zip_longest

from mlx_finetuning.data_processor.findings import Finding, finding
from mlx_finetuning.data_processor.readers.cells import filled_in, known_words
from mlx_finetuning.data_processor.readers.column_names import role_named
from mlx_finetuning.data_processor.readers.header import SourceRow

_MOST_NAMES = 12
"""Rows of a table that lies on its side."""
_LONGEST = 40
"""Signs at the start of a cell that are looked at."""
_SIDE = r"(?P<side>q(?:uestion)?|a(?:nswer)?|質問|回答|設問|問題|問い?|解答|正解|答え?)"
_BULLETS = "■□●○◆◇▼"
# A mark with brackets, a number or a stop.
_MARK = re.compile(
    rf"\s*[{_BULLETS}]?\s*(?:[【\[(<「]{_SIDE.replace('side', 'quoted')}\s?\d{{0,4}}[】\])>」][.:]?"
    rf"|{_SIDE}[\s.\-_]?(?:\d{{1,4}}(?:[.:)、](?!\d)|\s+|$)|[.:)、]|$)"
    r"|(?P<spaced>解答|正解|答え?)\s+)\s*",
    re.IGNORECASE,
)
_BOLD = re.compile(r"\A\s*(?:[-*+]\s+)?\*\*([^*\n]{1,10})\*\*")
"""A mark as Markdown shows it, in a list or not."""
_LINES = 8
"""Lines of text that a question and its answer may have beside the marked ones."""
_TITLES = 10
"""Rows above the first mark."""


def as_table(rows: Sequence[SourceRow]) -> tuple[Sequence[SourceRow], list[Finding]]:
    """`rows` themselves, or what they say as rows of a table with its header."""
    marked = _under_marks(rows)
    if marked:
        return marked, [finding("MARKED_ROWS", count=len(marked) - 1)]
    turned = _on_its_side(rows)
    return (turned, [finding("TRANSPOSED")]) if turned else (rows, [])


def in_lines(lines: Sequence[str]) -> list[SourceRow]:
    """A header and a row per question, of lines of text of which each begins with a mark or goes on;
    nothing where they are none."""
    bare = [_BOLD.sub(r"\1", line) if "**" in line else line for line in lines]
    return _under_marks([(number, [line]) for number, line in enumerate(bare, 1)], _LINES)


def _on_its_side(rows: Sequence[SourceRow]) -> list[SourceRow]:
    """The columns of a few rows that begin with names, as rows numbered as the columns are."""
    if len(rows) > 2 * _MOST_NAMES:
        return []
    lying = [cells for __, cells in rows if filled_in(cells) > 1]
    if not 2 <= len(lying) <= _MOST_NAMES or max(map(len, lying)) < 4:
        return []
    start = min(next(at for at, cell in enumerate(cells) if cell.strip()) for cells in lying)
    names = [cells[start] if start < len(cells) else "" for cells in lying]
    if not {"question", "answer"} <= {role_named(name) for name in names}:
        return []
    if any(known_words(cells) > 1 for cells in lying):
        return []
    columns = [cells[start:] for cells in lying]
    return [
        (number, list(cells))
        for number, cells in enumerate(zip_longest(*columns, fillvalue=""), start + 1)
    ]


def _under_marks(rows: Sequence[SourceRow], most_loose: int = 1) -> list[SourceRow]:
    """A header and a row per question, of rows of which each begins with a mark or goes on: up to
    `most_loose` a question."""
    pairs: list[tuple[int, list[list[str]]]] = []
    loose = above = 0
    for number, cells in rows:
        filled = [cell.strip() for cell in cells if cell.strip()]
        if not filled:
            continue
        side, text = _marked(filled)
        if side == "q":
            pairs.append((number, [[text], []]))
        elif not pairs:
            above += 1
            if above > _TITLES or filled_in(cells) > 1:
                return []  # a header names what stands below it
        elif side == "a" and not pairs[-1][1][1]:
            pairs[-1][1][1].append(text)
        elif len(filled) > 1:
            return []  # a field of another name
        else:
            part = pairs[-1][1][1] or pairs[-1][1][0]
            loose += any(part)  # below a mark that stands alone the text begins
            part.append("\n".join(filled))
    answered = sum(bool(answers) for __row, (__cells, answers) in pairs)
    if answered < 2 or answered * 5 < len(pairs) * 4 or loose > most_loose * len(pairs):
        return []
    texts = [(number, ["\n".join(filter(None, part)) for part in both]) for number, both in pairs]
    return [(pairs[0][0], ["質問", "回答"]), *texts]


def _marked(filled: Sequence[str]) -> tuple[str, str]:
    """Which side a row's mark is of, "q" or "a", and its text; nothing where it has none."""
    start = unicodedata.normalize("NFKC", filled[0][:_LONGEST])
    match = _MARK.match(start)
    if match is None:
        return "", ""
    name = match["side"] or match["quoted"] or match["spaced"]
    side = "q" if name[0] in "qQ質問設" else "a"
    rest = filled[0][match.end() :].strip()  # folding keeps the length of all signs in a mark
    stands_out = bool(match["quoted"]) or start[0] in _BULLETS
    if len(filled) == 1 and (rest or stands_out):
        return side, rest
    return (side, filled[1]) if len(filled) > 1 and not rest else ("", "")
