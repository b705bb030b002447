"""The header of a table among rows of cells: below titles and notes, of one row or two, or none.

Rows are compared with those below them; everything that was decided is a finding.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlx_finetuning.data_processor.findings import Finding, finding
from mlx_finetuning.data_processor.readers.cells import (
    VALUE,
    contrast,
    filled_in,
    is_note,
    known_words,
    name_like,
    sentence_like,
)
from mlx_finetuning.data_processor.readers.column_names import OTHER_NAMES, ROLES, base_name
from mlx_finetuning.language import _

SourceRow = tuple[int, list[str]]
"""SourceRow number in the source, and its cells."""

SAMPLE = 200
"""Rows that are looked at to find the header."""
DEEPEST = 30
"""Rows, without blank ones, among which a header is looked for."""
_SHOWN = 6
"""Column names in a finding."""
_PARTS = (
    "質問",
    "回答",
    "問い合わせ",
    "教えてください",
    "記入",
    "入力してください",
    "question",
    "answer",
)


@dataclass(frozen=True)
class _Candidate:
    """A row that may be the header: its place among the rows, and what speaks for it."""

    at: int
    last: int
    """The same, or the row below if that goes on naming."""
    score: float
    known: int
    """Cells that are words for columns of questions and answers."""


def find_header(rows: Sequence[SourceRow], notes: list[Finding]) -> tuple[int, int]:
    """Positions of the header's first and last row, (0, -1) for none; adds what was decided."""
    filled_rows = [at for at, (__, cells) in enumerate(rows[:SAMPLE]) if any(map(str.strip, cells))]
    if not filled_rows:
        return 0, 0
    later = filled_rows[len(filled_rows) // 2 :]
    typical = statistics.median(filled_in(rows[at][1]) for at in later)
    candidates = list(_candidates(rows, filled_rows, typical))
    best = max(candidates, key=lambda candidate: candidate.score, default=None)
    top = filled_rows[0]
    if (best is None or not best.known) and _is_data(rows, filled_rows, typical):
        notes.append(finding("NO_HEADER", [rows[top][0]]))
        return 0, -1
    first, last = (best.at, best.last) if best is not None else (top, top)
    number, cells = rows[first]
    below = [rows[at][1] for at in filled_rows if at > last][:50]
    if best is None:
        is_doubtful = any(map(sentence_like, cells)) and not contrast(cells, below)
    else:
        # The row below may be the header, and this one a note.
        is_doubtful = (
            not best.known
            and len(below) > 3
            and name_like(below[0])
            and contrast(below[0], below[1:]) >= max(2, filled_in(below[0]))
        )
    if is_doubtful:
        notes.append(finding("HEADER_DOUBTFUL", [number]))
    skipped = [at for at in filled_rows if at < first]
    shown = [name for name in joined([cells for __, cells in rows[first : last + 1]]) if name]
    names = _("、").join([*shown[:_SHOWN], *(["…"] if len(shown) > _SHOWN else [])])
    if first != last:
        both = _("{first}・{last}").format(first=rows[first][0], last=rows[last][0])
        notes.append(finding("HEADER_OF_TWO_ROWS", row=both, names=names))
    elif skipped or first != 0:
        notes.append(finding("HEADER_ROW", row=number, names=names))
    if skipped:
        above = [rows[at][1] for at in skipped]
        is_lost = any(
            not is_note(cells, typical) and filled_in(cells) >= 0.8 * typical for cells in above
        )
        code = "ROWS_LOST" if is_lost else "ABOVE_HEADER"
        notes.append(finding(code, [rows[at][0] for at in skipped]))
    return first, last


def _candidates(
    rows: Sequence[SourceRow], filled_rows: Sequence[int], typical: float
) -> Iterator[_Candidate]:
    """Rows that could name the columns of the rows below them."""
    only_notes, full_rows = True, 0
    for order, at in enumerate(filled_rows[:DEEPEST]):
        cells, last = rows[at][1], at
        names = cells
        if at + 1 < len(rows) and _is_continued(cells, rows[at + 1][1]):
            pairs = itertools.zip_longest(cells, rows[at + 1][1], fillvalue="")
            names = joined([cells, rows[at + 1][1]])
            cells, last = [below or above for above, below in pairs], at + 1
        known = known_words(cells)
        filled = filled_in(names) if known < 2 else sum(map(bool, map(str.strip, names)))
        is_wide = filled >= max(min(2, typical), 0.6 * typical)
        is_reachable = only_notes or (known >= min(2, typical) and full_rows < 3 and order <= 12)
        # Known words make up for names that repeat, or are years.
        is_named = name_like(names) or (known > 1 and not any(map(sentence_like, names)))
        if is_wide and is_named and is_reachable and filled_rows[-1] > at:
            others = sum(base_name(cell) in OTHER_NAMES for cell in cells)
            below = [rows[other][1] for other in filled_rows[order + 1 : order + 51]]
            # Blank lines of a text are no rows; they leave a gap in the numbers.
            before = rows[at - 1] if order else (rows[at][0] - 1, ["-"])
            end = before[0] + sum(cell.count("\n") for cell in before[1])
            after_blank = 2 * (not any(map(str.strip, before[1])) or rows[at][0] > end + 1)
            fill = 2 * min(1.0, filled / max(1.0, typical))
            score = 3 * known + 2 * others + after_blank + 0.5 * contrast(cells, below) + fill
            yield _Candidate(at, last, score, known)
            if known > 1:
                return  # further down another table begins
        only_notes = only_notes and is_note(rows[at][1], typical)
        full_rows += filled >= max(2, 0.8 * typical) and any(map(sentence_like, cells))


def _is_data(rows: Sequence[SourceRow], filled_rows: Sequence[int], typical: float) -> bool:
    """Whether the first row is like those below it, and names nothing."""
    top, others = filled_rows[0], filled_rows[1:51]
    cells = [cell.strip() for cell in rows[top][1]]
    if not others or typical < 2 or filled_in(cells) < max(2, 0.6 * typical):
        return False
    words = [base_name(cell) for cell in cells]
    if any(word in ROLES or word in OTHER_NAMES for word in words):
        return False
    if not any(map(sentence_like, cells)) and not (VALUE.fullmatch(cells[0]) and len(cells) > 2):
        return False
    if contrast(cells, [rows[at][1] for at in others]) > 0.3 * typical:
        return False
    lengths = [len("".join(rows[at][1])) for at in others]
    is_short = len("".join(cells)) < 0.4 * statistics.median(lengths)
    return not is_short and not all(any(part in word for part in _PARTS) for word in words if word)


def _is_continued(upper: Sequence[str], lower: Sequence[str]) -> bool:
    """Whether `lower` names what `upper` leaves blank or spans, as headers of two rows do."""
    width = max(len(upper), len(lower))
    above = [cell.strip() for cell in [*upper, *[""] * width][:width]]
    below = [cell.strip() for cell in [*lower, *[""] * width][:width]]
    named = [at for at in range(width) if below[at] and below[at] != above[at]]
    is_named = bool(named) and all(name_like([below[at]]) for at in named)
    if filled_in(upper) < 2 or not is_named:  # a single cell above is a title
        return False
    is_repeated = 2 * len({below[at] for at in named}) <= len(named) or (
        len({below[at] for at in named}) < len(named)
        and 2 * sum(base_name(below[at]) in {*ROLES, *OTHER_NAMES} for at in named) >= len(named)
        and name_like(joined([above, below]))
    )
    if not is_repeated and not name_like([below[at] for at in named]):
        return False
    is_merged = any(below[at] and below[at] == above[at] for at in range(width))
    # A row without a gap is data, unless cells above it were merged downwards or names repeat.
    is_full = all(below) and not is_repeated
    if not is_merged and (is_full or any(sentence_like(below[at]) for at in named)):
        return False
    spans = [
        not above[at] or (at > 0 and above[at] == above[at - 1]) or above.count(above[at]) > 1
        for at in range(width)
    ]
    begins = [
        at + 1 < width and (spans[at + 1] and (not above[at + 1] or above[at + 1] == above[at]))
        for at in range(width)
    ]
    in_span = all(spans[at] or begins[at] for at in named)
    return in_span and any(spans[at] for at in named)


def joined(header: Sequence[Sequence[str]]) -> list[str]:
    """The name of each column; of two rows the upper one's names reach over blanks."""
    lines = [[" ".join(cell.split()) for cell in cells] for cells in header]
    width = max((len(cells) for cells in lines), default=0)
    lines = [[*cells, *[""] * width][:width] for cells in lines]
    names = [""] * width
    for depth, cells in enumerate(lines):
        reach = ""
        for at, cell in enumerate(cells):
            below = any(other[at] for other in lines[depth + 1 :])
            reach = cell or (reach if below and not names[at] else "")
            if reach and reach not in names[at].split(" "):
                names[at] = f"{names[at]} {reach}".strip()
    return names
