"""Characters on a page → lines in reading order, and tables.

Vertical pages are turned by a quarter first, so that their columns are lines from top to bottom: all
else is the same for both. Lines are told apart by height, cells by gaps and ruled lines, columns of
text by the gutter between them. Ruby, small letters beside a line, is left out.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from mlx_finetuning.documents.readers.wording import joined

THICKEST = 2.5
"""Points of a line that is drawn; what is thicker is an area."""


class Glyph(NamedTuple):
    """A character and its box, in points from the page's lower left corner."""

    text: str
    x0: float
    y0: float
    x1: float
    y1: float
    size: float


class Ruling(NamedTuple):
    """A line drawn along one of the page's edges."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def is_horizontal(self) -> bool:
        return self.x1 - self.x0 >= self.y1 - self.y0


@dataclass(frozen=True)
class Line:
    """A line of text, or a part of one that stands apart."""

    text: str
    start: float
    end: float
    """Along the line."""
    at: float
    """How far down the page, in reading direction."""
    size: float
    """Of its letters, in points."""
    column_start: float
    column_end: float
    """Where the column of text that it belongs to begins and ends."""
    page_bottom: float
    page_top: float
    """Where it lies on the page as it is seen."""

    @property
    def is_full(self) -> bool:
        """Whether it was broken for its length."""
        is_wide = self.column_end - self.column_start > 12 * self.size
        return is_wide and self.end > self.column_end - 2 * self.size


@dataclass(frozen=True)
class LaidTable:
    rows: tuple[tuple[str, ...], ...]
    at: float
    """How far down the page it begins, in reading direction."""


@dataclass(frozen=True)
class PageLayout:
    """A page's lines and tables."""

    number: int
    height: float
    lines: tuple[Line, ...]
    tables: tuple[LaidTable, ...]


_CELL_GAP = 1.3
"""Letters' width between parts of a line that stand apart."""
_SMALL = 0.62
"""Ruby, in the letters that it stands beside."""
_PROSE = 11
"""Letters in a part of a line, on average, from which columns of such parts are text, not cells."""
_LEAST_ROWS = 3
"""Of a table without ruled lines."""


def lay_out(
    glyphs: Sequence[Glyph], rulings: Sequence[Ruling], number: int, height: float
) -> PageLayout:
    """The lines and tables of a page."""
    is_vertical = _is_vertical(glyphs)
    if is_vertical:
        glyphs = [
            glyph._replace(x0=-glyph.y1, y0=glyph.x0, x1=-glyph.y0, y1=glyph.x1) for glyph in glyphs
        ]
        rulings = [Ruling(-line.y1, line.x0, -line.y0, line.x1) for line in rulings]
    grids = _grids(rulings)
    inside: list[list[Glyph]] = [[] for _ in grids]
    free: list[Glyph] = []
    for glyph in glyphs:
        held = next((at for at, grid in enumerate(grids) if grid.holds(glyph)), None)
        (free if held is None else inside[held]).append(glyph)
    tables = [
        LaidTable(grid.rows(held), -grid.ys[-1])
        for grid, held in zip(grids, inside, strict=True)
        if held
    ]
    lines: list[Line] = []
    for band in _bands([_Part(part) for line in _lines_of(free) for part in _parts(line)]):
        if rows := _cells(band):
            tables.append(LaidTable(rows, -max(part.y1 for part in band)))
        else:
            start, end = min(part.x0 for part in band), max(part.x1 for part in band)
            lines += [
                Line(
                    part.text,
                    part.x0,
                    part.x1,
                    -part.y1,
                    part.size,
                    start,
                    end,
                    *((-part.x1, -part.x0) if is_vertical else (part.y0, part.y1)),
                )
                for part in band
                if part.text
            ]
    return PageLayout(number, height, tuple(lines), tuple(tables))


def _is_vertical(glyphs: Sequence[Glyph]) -> bool:
    down = across = 0
    for one, other in pairwise(glyph for glyph in glyphs if not glyph.text.isspace()):
        size = max(one.size, other.size)
        x, y = other.x0 - one.x0, other.y0 - one.y0
        down += abs(x) < 0.3 * size and -2 * size < y < -0.3 * size
        across += abs(y) < 0.3 * size and 0 < x < 2 * size
    return down > across


class _Part:
    """Neighbouring characters of one line."""

    def __init__(self, glyphs: Sequence[Glyph]) -> None:
        self.x0, self.x1 = min(glyph.x0 for glyph in glyphs), max(glyph.x1 for glyph in glyphs)
        self.y0, self.y1 = min(glyph.y0 for glyph in glyphs), max(glyph.y1 for glyph in glyphs)
        self.size = statistics.median(glyph.size for glyph in glyphs)
        self.text = _text(glyphs)

    def overlaps(self, other: _Part) -> bool:
        """Whether both stand in one column."""
        return min(self.x1, other.x1) > max(self.x0, other.x0)


def _text(glyphs: Sequence[Glyph]) -> str:
    """In order; a gap is a space, a smaller one between Western letters too."""
    signs: list[str] = []
    for before, glyph in zip((None, *glyphs), glyphs, strict=False):
        gap = glyph.x0 - before.x1 if before else 0.0
        is_western = before is not None and (before.text + glyph.text).isascii()
        if gap > (0.18 if is_western else 0.7) * glyph.size:
            signs.append(" ")
        signs.append(glyph.text)
    text = "".join(signs).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return " ".join(text.replace("\u3000", " ").split())


def _lines_of(glyphs: Iterable[Glyph]) -> list[list[Glyph]]:
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


def _parts(line: Sequence[Glyph]) -> list[list[Glyph]]:
    """A line divided at its wide gaps."""
    parts = [[line[0]]]
    for before, glyph in pairwise(line):
        if glyph.x0 - before.x1 > _CELL_GAP * max(before.size, glyph.size):
            parts.append([])
        parts[-1].append(glyph)
    return parts


def _bands(parts: Sequence[_Part]) -> list[list[_Part]]:
    """The parts of a page in reading order: over its whole width, or one column of text after the other."""
    gutter = _gutter(parts)
    if gutter is None:
        return _runs(parts)
    bands: list[list[_Part]] = []
    left: list[_Part] = []
    right: list[_Part] = []
    whole: list[_Part] = []
    for part in parts:
        if part.x0 < gutter < part.x1:
            bands += [*_runs(left), *_runs(right)]
            left, right = [], []
            whole.append(part)
        else:
            bands += _runs(whole)
            whole = []
            (left if part.x1 <= gutter else right).append(part)
    return [*bands, *_runs(whole), *_runs(left), *_runs(right)]


def _gutter(parts: Sequence[_Part]) -> float | None:
    """Where the space between two columns of text lies; None where the text is one column."""
    if len(parts) < 8:
        return None
    first, last = min(part.x0 for part in parts), max(part.x1 for part in parts)
    best, fewest = None, int(len(parts) * 0.2) + 1
    for step in range(30, 71):
        x = first + (last - first) * step / 100
        sides = [part for part in parts if part.x1 <= x], [part for part in parts if part.x0 >= x]
        crossing = len(parts) - sum(map(len, sides))
        is_divided = min(map(len, sides)) >= 4 and all(map(_is_prose, sides))
        if is_divided and crossing < fewest:
            best, fewest = x, crossing
    return best


def _is_prose(parts: Sequence[_Part]) -> bool:
    return statistics.mean(len(part.text) for part in parts) >= _PROSE


def _runs(parts: Sequence[_Part]) -> list[list[_Part]]:
    """Parts of lines below each other, divided where lines of several parts begin or end: those may be
    a table."""
    runs: list[list[_Part]] = []
    was_divided = None
    for line in _same_line(parts):
        divided = len(line) > 1
        if divided != was_divided:
            runs.append([])
        runs[-1] += line
        was_divided = divided
    # A table's row may have one cell only; what is no table is text, whose lines belong together.
    merged: list[list[_Part]] = []
    for run in runs:
        if merged and not _cells(run) and not _cells(merged[-1]):
            merged[-1] += run
        else:
            merged.append(run)
    return merged


def _same_line(parts: Sequence[_Part]) -> list[list[_Part]]:
    lines: list[list[_Part]] = []
    for part in parts:
        if (
            lines
            and min(part.y1, lines[-1][0].y1) - max(part.y0, lines[-1][0].y0) > 0.5 * part.size
        ):
            lines[-1].append(part)
        else:
            lines.append([part])
    return lines


def _cells(parts: Sequence[_Part]) -> tuple[tuple[str, ...], ...]:
    """The rows of a table without ruled lines; empty if these parts are none."""
    lines = _same_line(parts)
    if len(lines) < _LEAST_ROWS or min(map(len, lines)) < 2 or _is_prose(parts):
        return ()
    columns: list[_Part] = []
    spans: list[list[float]] = []
    for part in sorted(parts, key=lambda part: part.x0):
        if spans and part.x0 < spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], part.x1)
        else:
            spans.append([part.x0, part.x1])
            columns.append(part)
    if len(spans) < 2 or any(len(line) > len(spans) for line in lines):
        return ()
    rows = []
    for line in lines:
        cells = [""] * len(spans)
        for part in line:
            at = next(at for at, (_, end) in enumerate(spans) if part.x0 < end)
            cells[at] = f"{cells[at]} {part.text}".strip()
        rows.append(tuple(cells))
    return tuple(rows)


_TOUCHING = 3.0
"""Points between ruled lines that meet."""


@dataclass(frozen=True)
class _Grid:
    """Ruled lines that meet, as a table's columns and rows."""

    rulings: tuple[Ruling, ...]
    xs: tuple[float, ...]
    ys: tuple[float, ...]

    def holds(self, glyph: Glyph) -> bool:
        """Whether a character stands in it."""
        x, y = (glyph.x0 + glyph.x1) / 2, (glyph.y0 + glyph.y1) / 2
        return self.xs[0] < x < self.xs[-1] and self.ys[0] < y < self.ys[-1]

    def rows(self, glyphs: Sequence[Glyph]) -> tuple[tuple[str, ...], ...]:
        """The cells' texts from the top. Where no line is ruled between two cells they are one, and
        its text stands in both."""
        columns, lines = len(self.xs) - 1, len(self.ys) - 1
        whole = {(row, column): (row, column) for row in range(lines) for column in range(columns)}
        for row in range(lines - 1, -1, -1):  # from the top: y grows upwards
            for column in range(columns):
                if column and not self._is_ruled(self.xs[column], row, vertical=True):
                    whole[row, column] = whole[row, column - 1]
                elif row + 1 < lines and not self._is_ruled(
                    self.ys[row + 1], column, vertical=False
                ):
                    whole[row, column] = whole[row + 1, column]
        held: dict[tuple[int, int], list[Glyph]] = {}
        for glyph in glyphs:
            x, y = (glyph.x0 + glyph.x1) / 2, (glyph.y0 + glyph.y1) / 2
            cell = (_interval(self.ys, y), _interval(self.xs, x))
            held.setdefault(whole[cell], []).append(glyph)
        texts = {
            cell: functools.reduce(joined, map(_text, _lines_of(part)), "")
            for cell, part in held.items()
        }
        return tuple(
            tuple(texts.get(whole[row, column], "") for column in range(columns))
            for row in range(lines - 1, -1, -1)
        )

    def _is_ruled(self, where: float, between: int, *, vertical: bool) -> bool:
        """Whether a line lies at `where`, beside the middle of a row (vertical) or of a column."""
        edges = self.ys if vertical else self.xs
        middle = (edges[between] + edges[between + 1]) / 2
        for line in self.rulings:
            if line.is_horizontal == vertical:
                continue
            at, start, end = (
                (line.x0, line.y0, line.y1) if vertical else (line.y0, line.x0, line.x1)
            )
            if abs(at - where) <= _TOUCHING and start <= middle <= end:
                return True
        return False


def _interval(edges: Sequence[float], value: float) -> int:
    return max(0, sum(edge <= value for edge in edges) - 1)


def _grids(rulings: Sequence[Ruling]) -> list[_Grid]:
    """Tables of at least two rows and two columns, by their ruled lines."""
    groups: list[list[Ruling]] = []
    for line in rulings:
        touched = [group for group in groups if any(_meets(line, other) for other in group)]
        rest = [group for group in groups if not any(group is one for one in touched)]
        groups = [*rest, [line, *(other for group in touched for other in group)]]
    grids = []
    for group in groups:
        xs = _distinct(line.x0 for line in group if not line.is_horizontal)
        ys = _distinct(line.y0 for line in group if line.is_horizontal)
        if len(xs) >= 3 and len(ys) >= 3:
            grids.append(_Grid(tuple(group), xs, ys))
    return grids


def _meets(one: Ruling, other: Ruling) -> bool:
    return (
        one.x0 - _TOUCHING <= other.x1
        and other.x0 - _TOUCHING <= one.x1
        and one.y0 - _TOUCHING <= other.y1
        and other.y0 - _TOUCHING <= one.y1
    )


def _distinct(values: Iterable[float]) -> tuple[float, ...]:
    """Sorted, those closer than a line's thickness once."""
    kept: list[float] = []
    for value in sorted(values):
        if not kept or value - kept[-1] > _TOUCHING:
            kept.append(value)
    return tuple(kept)
