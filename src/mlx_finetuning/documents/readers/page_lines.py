"""Characters of a page → lines, and the parts of lines that stand apart."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from itertools import pairwise

from mlx_finetuning.documents.readers.glyphs import Glyph, text_of

_CELL_GAP = 1.3
"""Letters' width between parts of a line that stand apart."""
_SMALL = 0.62
"""Ruby, in the letters that it stands beside."""


class Part:
    """Neighbouring characters of one line."""

    def __init__(self, glyphs: Sequence[Glyph]) -> None:
        self.x0, self.x1 = min(glyph.x0 for glyph in glyphs), max(glyph.x1 for glyph in glyphs)
        self.y0, self.y1 = min(glyph.y0 for glyph in glyphs), max(glyph.y1 for glyph in glyphs)
        self.size = statistics.median(glyph.size for glyph in glyphs)
        self.text = text_of(glyphs)


def lines_of(glyphs: Iterable[Glyph]) -> list[list[Glyph]]:
    """Characters of equal height, from the top, each line from the left; without ruby."""
    lines: list[list[Glyph]] = []
    middles: list[float] = []
    for glyph in sorted(glyphs, key=lambda glyph: -(glyph.y0 + glyph.y1)):
        if glyph.text.isspace():
            continue
        middle = (glyph.y0 + glyph.y1) / 2
        if lines and middles[-1] - middle < 0.4 * max(glyph.size, lines[-1][0].size):
            lines[-1].append(glyph)
        else:
            lines.append([glyph])
            middles.append(middle)
    lines = [sorted(line, key=lambda glyph: (round(glyph.x0, 1), glyph.y0)) for line in lines]
    kept = []
    for at, line in enumerate(lines):
        below = lines[at + 1] if at + 1 < len(lines) else None
        if below is None or not _is_ruby(line, below):
            kept.append(line)
    return kept


def _is_ruby(line: Sequence[Glyph], below: Sequence[Glyph]) -> bool:
    """Whether a line is of small letters close above others."""
    size = statistics.median(glyph.size for glyph in below)
    if max(glyph.size for glyph in line) > _SMALL * size:
        return False
    gap = min(glyph.y0 for glyph in line) - max(glyph.y1 for glyph in below)
    first, last = min(glyph.x0 for glyph in below), max(glyph.x1 for glyph in below)
    return gap < 0.6 * size and line[0].x1 > first and line[-1].x0 < last


def parts_of(line: Sequence[Glyph]) -> list[list[Glyph]]:
    """A line divided at its wide gaps."""
    parts = [[line[0]]]
    for before, glyph in pairwise(line):
        if glyph.x0 - before.x1 > _CELL_GAP * max(before.size, glyph.size):
            parts.append([])
        parts[-1].append(glyph)
    return parts


def same_line(parts: Sequence[Part]) -> list[list[Part]]:
    """Parts of equal height together."""
    lines: list[list[Part]] = []
    for part in parts:
        if (
            lines
            and min(part.y1, lines[-1][0].y1) - max(part.y0, lines[-1][0].y0) > 0.5 * part.size
        ):
            lines[-1].append(part)
        else:
            lines.append([part])
    return lines
