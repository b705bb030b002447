"""Tables of a page: by their ruled lines, or by parts of lines that stand below each other."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlx_finetuning.documents.readers.glyphs import TOUCHING, Glyph, Ruling, text_of
from mlx_finetuning.documents.readers.page_lines import Part, lines_of, same_line
from mlx_finetuning.documents.readers.wording import joined

_PROSE = 11
"""Letters in a part of a line, on average, from which columns of such parts are text, not cells."""
_LEAST_ROWS = 3
"""Of a table without ruled lines."""


def is_prose(parts: Sequence[Part]) -> bool:
    """Whether parts of lines are text, and no cells."""
    return statistics.mean(len(part.text) for part in parts) >= _PROSE


def cells_of(parts: Sequence[Part]) -> tuple[tuple[str, ...], ...]:
    """The rows of a table without ruled lines; empty if these parts are none."""
    lines = same_line(parts)
    if len(lines) < _LEAST_ROWS or min(map(len, lines)) < 2 or is_prose(parts):
        return ()
    spans: list[list[float]] = []
    for part in sorted(parts, key=lambda part: part.x0):
        if spans and part.x0 < spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], part.x1)
        else:
            spans.append([part.x0, part.x1])
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


@dataclass(frozen=True)
class Grid:
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
            cell: functools.reduce(joined, map(text_of, lines_of(part)), "")
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
            if abs(at - where) <= TOUCHING and start <= middle <= end:
                return True
        return False


def _interval(edges: Sequence[float], value: float) -> int:
    return max(0, sum(edge <= value for edge in edges) - 1)


def grids_of(rulings: Sequence[Ruling]) -> list[Grid]:
    """Tables of at least two rows and two columns, by their ruled lines."""
    groups: list[list[Ruling]] = []
    for line in rulings:
        touched = [group for group in groups if any(line.meets(other) for other in group)]
        rest = [group for group in groups if not any(group is one for one in touched)]
        groups = [*rest, [line, *(other for group in touched for other in group)]]
    grids = []
    for group in groups:
        xs = _distinct(line.x0 for line in group if not line.is_horizontal)
        ys = _distinct(line.y0 for line in group if line.is_horizontal)
        if len(xs) >= 3 and len(ys) >= 3:
            grids.append(Grid(tuple(group), xs, ys))
    return grids


def _distinct(values: Iterable[float]) -> tuple[float, ...]:
    """Sorted, those closer than a line's thickness once."""
    kept: list[float] = []
    for value in sorted(values):
        if not kept or value - kept[-1] > TOUCHING:
            kept.append(value)
    return tuple(kept)
